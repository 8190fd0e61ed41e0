//! What the nodes found in their stores, and mended.

use crate::output::shown;
use link::message::StoreStatus;
use record::UnixSeconds;
use serde_json::{Value, json};

/// What is said of a node's store, where there is something to say.
pub(super) fn line(node: &str, store: &StoreStatus) -> Option<String> {
    if store.faults.is_empty() && store.mended.is_empty() {
        return None;
    }
    let mut text = format!("store {node}  ");
    text += &match (store.scrubbed, store.faults.is_empty()) {
        (0, _) => "not looked at since the start".to_owned(),
        (time, true) => format!("whole, looked at {}", UnixSeconds(time)),
        (time, false) => {
            format!("DAMAGED, looked at {}: {}", UnixSeconds(time), counts(&store.faults))
        }
    };
    if !store.mended.is_empty() {
        text += &format!("; mended since the start: {}", counts(&store.mended));
    }
    Some(text + "\n")
}

/// What somebody should look at.
pub(super) fn problem(store: &StoreStatus) -> Option<String> {
    (!store.faults.is_empty()).then(|| {
        let first = shown(store.first_fault.as_bytes(), 300);
        format!("its store is damaged ({}): {first}", counts(&store.faults))
    })
}

/// For programs.
pub(super) fn json(store: &StoreStatus) -> Value {
    let object = |counts: &[(String, u64)]| -> Value {
        counts
            .iter()
            .map(|(kind, count)| (kind.clone(), Value::from(*count)))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    json!({
        "scrubbed": (store.scrubbed > 0).then_some(store.scrubbed),
        "blocks": store.blocks,
        "faults": object(&store.faults),
        "first_fault": (!store.first_fault.is_empty()).then_some(&store.first_fault),
        "mended": object(&store.mended),
    })
}

fn counts(counts: &[(String, u64)]) -> String {
    let one = |(kind, count): &(String, u64)| format!("{count} {}", shown(kind.as_bytes(), 20));
    counts.iter().map(one).collect::<Vec<_>>().join(", ")
}
