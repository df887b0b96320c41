#!/usr/bin/env bash
# Compares patchbay with nginx and HAProxy (Debian: apt-get install nginx haproxy) in front of the
# same scripted model server, round by round:
#
#   benches/compare/run.sh SHAPE [FLAG...]     a shape of `patchbay bench --shape list`, and its flags
#
# The proxies forward Chat Completions; patchbay is spoken to in Responses and translates. The first
# server is what the others are compared with. PATCHBAY names the binary; SERVERS chooses whom
# (default: "nginx patchbay haproxy mock"; "chat" is patchbay relaying Chat, "late" patchbay with
# delay_acks, "tls" patchbay with TLS to the same model). Reports go to target/compare/SHAPE.*.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

SHAPE=${1:?"a shape: patchbay bench --shape list"}
shift
PATCHBAY=${PATCHBAY:-target/release/patchbay}
SERVERS=${SERVERS:-nginx patchbay haproxy mock}
OUT=target/compare
WORK=$(mktemp -d)
HERE=$PWD/benches/compare
PIDS=()
mkdir -p "$OUT"
ulimit -n "$(ulimit -Hn)"

finish() {
  if [ ${#PIDS[@]} -gt 0 ]; then kill "${PIDS[@]}" 2>/dev/null || true; fi
  wait 2>/dev/null || true
  rm -rf "$WORK"
}
trap finish EXIT

# free_port: one that nobody listens on now.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# await NAME PORT: until it listens there.
await() {
  for _ in $(seq 200); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; then return; fi
    sleep 0.05
  done
  echo "$1 does not listen on port $2:" >&2
  cat "$WORK/$1.log" >&2
  return 1
}

# certify: a certificate of our own for localhost.
certify() {
  local key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2)
  openssl req -x509 "${key[@]}" -subj /CN=compare -keyout "$WORK/ca.key" -out "$WORK/ca.pem"
  openssl req -x509 "${key[@]}" -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -addext basicConstraints=critical,CA:FALSE -CA "$WORK/ca.pem" -CAkey "$WORK/ca.key" \
    -keyout "$WORK/key.pem" -out "$WORK/cert.pem"
} 2>/dev/null

# serve NAME PORT UPSTREAM SETTING: patchbay with one worker, keeping as many connections as the others.
serve() {
  cat >"$WORK/$1.toml" <<END
[limits]
pool_idle_max = 10000
[providers.mock]
url = "$3/v1/chat/completions"
$4
END
  "$PATCHBAY" serve --config "$WORK/$1.toml" --port "$2" --workers 1 --log-level error 2>"$WORK/$1.log" &
}

# Each server reaches the model at a loopback address of its own: one address has room for some 14,000
# connections before the kernel has to search for a port, and thousands are kept here.
MOCK=$(free_port)
HOSTS=0
"$PATCHBAY" mock --listen "0.0.0.0:$MOCK" >/dev/null 2>"$WORK/mock.log" &
PIDS+=($!)
MOCK_PID=$!
await mock "$MOCK"

compare=()
for server in $SERVERS; do
  port=$(free_port)
  HOSTS=$((HOSTS + 1))
  model=127.0.0.$HOSTS:$MOCK
  dialect=chat
  case $server in
    mock)
      compare+=(--compare "mock=http://127.0.0.1:$MOCK,$MOCK_PID,chat")
      continue
      ;;
    nginx)
      mkdir "$WORK/nginx"
      sed "s/MOCK/$model/; s/PORT/$port/" "$HERE/nginx.conf" >"$WORK/nginx/nginx.conf"
      nginx -p "$WORK/nginx" -c nginx.conf 2>"$WORK/nginx.log" &
      ;;
    haproxy)
      sed "s/MOCK/$model/; s/PORT/$port/" "$HERE/haproxy.cfg" >"$WORK/haproxy.cfg"
      haproxy -db -f "$WORK/haproxy.cfg" 2>"$WORK/haproxy.log" &
      ;;
    patchbay | chat | late)
      if [ "$server" != chat ]; then dialect=responses; fi
      late=false
      if [ "$server" = late ]; then late=true; fi
      serve "$server" "$port" "http://$model" "delay_acks = $late"
      ;;
    tls)
      dialect=responses
      tls_port=$(free_port)
      certify
      "$PATCHBAY" mock --port "$tls_port" --tls-cert "$WORK/cert.pem" --tls-key "$WORK/key.pem" \
        >/dev/null 2>"$WORK/mock-tls.log" &
      PIDS+=($!)
      await mock-tls "$tls_port"
      serve tls "$port" "https://localhost:$tls_port" "ca_file = \"$WORK/ca.pem\""
      ;;
    *)
      echo "no server is called $server" >&2
      exit 2
      ;;
  esac
  PIDS+=($!)
  pid=$!
  await "$server" "$port"
  compare+=(--compare "$server=http://127.0.0.1:$port,$pid,$dialect")
done

"$PATCHBAY" bench --shape "$SHAPE" "${compare[@]}" --json "$OUT/$SHAPE.json" --report "$OUT/$SHAPE.html" "$@" |
  tee "$OUT/$SHAPE.txt"
