//! The event types of a Responses stream that say something of the answer.

/// What of an item is passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Showing {
    #[default]
    Nothing,
    Text,
    Refusal,
    Summary,
    Raw,
    Call,
}

/// Which half of an item's life an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Added,
    Delta,
    Annotation,
    Done,
    ItemDone,
}

/// What an event of type `kind` is about; `None` when it says nothing.
pub(super) fn family(kind: &str) -> Option<(Showing, Step)> {
    Some(match kind {
        "response.output_text.delta" => (Showing::Text, Step::Delta),
        "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
            (Showing::Call, Step::Delta)
        }
        "response.reasoning_summary_text.delta" => (Showing::Summary, Step::Delta),
        "response.reasoning_text.delta" | "response.reasoning.delta" => (Showing::Raw, Step::Delta),
        "response.refusal.delta" => (Showing::Refusal, Step::Delta),
        "response.output_item.added" => (Showing::Nothing, Step::Added),
        "response.output_item.done" => (Showing::Nothing, Step::ItemDone),
        "response.output_text.annotation.added" => (Showing::Text, Step::Annotation),
        "response.output_text.done" => (Showing::Text, Step::Done),
        "response.refusal.done" => (Showing::Refusal, Step::Done),
        "response.function_call_arguments.done" | "response.custom_tool_call_input.done" => {
            (Showing::Call, Step::Done)
        }
        "response.reasoning_summary_text.done" => (Showing::Summary, Step::Done),
        "response.reasoning_text.done" | "response.reasoning.done" => (Showing::Raw, Step::Done),
        _ => return None,
    })
}
