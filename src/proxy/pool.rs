//! Idle upstream connections, ready to be used again: the one that was used last comes first, so
//! that the others grow old and are closed.

/// The idle connections of one worker, by provider. Holds connection slots, not connections.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Vec<Vec<usize>>,
}

impl Pool {
    /// Keeps the connection in `slot` for `provider`. Returns the oldest one when there are now
    /// more than `idle_max`: it is to be closed.
    pub fn put(&mut self, provider: usize, slot: usize, idle_max: usize) -> Option<usize> {
        if self.idle.len() <= provider {
            self.idle.resize_with(provider + 1, Vec::new);
        }
        let idle = &mut self.idle[provider];
        idle.push(slot);
        (idle.len() > idle_max).then(|| idle.remove(0))
    }

    /// Takes out the connection that was used last.
    pub fn take(&mut self, provider: usize) -> Option<usize> {
        self.idle.get_mut(provider)?.pop()
    }

    /// Takes out the connection in `slot`. False when it is not there.
    pub fn remove(&mut self, provider: usize, slot: usize) -> bool {
        let Some(idle) = self.idle.get_mut(provider) else { return false };
        let place = idle.iter().rposition(|&other| other == slot);
        place.map(|place| idle.remove(place)).is_some()
    }

    /// Takes out every connection, of any provider.
    pub fn take_any(&mut self) -> Option<usize> {
        self.idle.iter_mut().find_map(Vec::pop)
    }

    /// How many are idle.
    #[must_use]
    pub fn len(&self) -> usize {
        self.idle.iter().map(Vec::len).sum()
    }

    /// True when none is idle.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_used_comes_first_and_the_oldest_is_pushed_out() {
        let mut pool = Pool::default();
        assert_eq!(pool.put(1, 10, 2), None);
        assert_eq!(pool.put(1, 11, 2), None);
        assert_eq!(pool.put(1, 12, 2), Some(10));
        assert_eq!((pool.len(), pool.take(0), pool.take(7)), (2, None, None));
        assert_eq!(pool.take(1), Some(12));
        assert_eq!((pool.take(1), pool.take(1)), (Some(11), None));
    }

    #[test]
    fn a_connection_that_ended_is_taken_out_once() {
        let mut pool = Pool::default();
        pool.put(0, 5, 4);
        pool.put(0, 6, 4);
        assert!(pool.remove(0, 5));
        assert!(!pool.remove(0, 5));
        assert!(!pool.remove(3, 6));
        assert_eq!((pool.take_any(), pool.take_any()), (Some(6), None));
        assert!(pool.is_empty());
    }

    #[test]
    fn no_room_at_all_gives_the_connection_back_at_once() {
        assert_eq!(Pool::default().put(0, 5, 0), Some(5));
    }
}
