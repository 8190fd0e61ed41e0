//! How long nodes keep entries, and what they gave up.

use crate::output::shown;
use link::message::RetentionStatus;
use serde_json::{Value, json};

/// What is said of a node, where there is something to say.
pub(super) fn line(node: &str, retention: &RetentionStatus) -> Option<String> {
    let RetentionStatus { days, dropped, height, minimum_index } = retention;
    if days.is_none() && *dropped == 0 {
        return None;
    }
    let kept = match days {
        Some(days) => format!("keeps entries for {days} days"),
        None => "keeps everything it has".to_owned(),
    };
    let gone = match dropped {
        0 => "none was given up".to_owned(),
        dropped => format!(
            "{dropped} were given up, up to block {height}; bundles begin with entry {minimum_index}"
        ),
    };
    Some(format!("retention {}  {kept}; {gone}\n", shown(node.as_bytes(), 63)))
}

/// For programs.
pub(super) fn json(retention: &RetentionStatus) -> Value {
    json!({
        "days": retention.days,
        "dropped": retention.dropped,
        "height": retention.height,
        "minimum_index": retention.minimum_index,
    })
}
