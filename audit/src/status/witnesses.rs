//! What outside witnesses say to the nodes.

use super::ask::Answer;
use crate::output::shown;
use link::message::WitnessStatus;
use record::UnixSeconds;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The longest problem shown.
const MAX_PROBLEM: usize = 300;

/// Each witness where it is furthest, with a problem if any node has one with it.
pub(super) fn merged(answers: &[&Answer]) -> Vec<WitnessStatus> {
    let mut merged: BTreeMap<&str, WitnessStatus> = BTreeMap::new();
    for witness in answers.iter().flat_map(|answer| &answer.witnesses.witnesses) {
        let known = merged.entry(&witness.name).or_insert_with(|| witness.clone());
        known.size = known.size.max(witness.size);
        known.time = known.time.max(witness.time);
        known.contradicts |= witness.contradicts;
        if known.problem.is_empty() || witness.contradicts {
            known.problem.clone_from(&witness.problem);
        }
    }
    merged.into_values().collect()
}

/// Problems, a line each: those that prove a rollback or a fork, or the others.
pub(super) fn problems<'a>(
    answer: &'a Answer,
    contradicts: bool,
) -> impl Iterator<Item = String> + 'a {
    let witnesses = answer.witnesses.witnesses.iter();
    let such = witnesses.filter(move |w| w.contradicts == contradicts && !w.problem.is_empty());
    such.map(move |witness| {
        let (name, problem) = (name(witness), shown(witness.problem.as_bytes(), MAX_PROBLEM));
        match contradicts {
            true => format!("ROLLBACK OR FORK: outside witness {name}: {problem}"),
            false => format!("outside witness {name}: {problem}"),
        }
    })
}

/// A line about a witness.
pub(super) fn line(witness: &WitnessStatus) -> String {
    let cosigned = match witness.time {
        0 => "has cosigned nothing since the nodes were started".to_owned(),
        time => format!("cosigned {} entries, {}", witness.size, UnixSeconds(time)),
    };
    let state = match (witness.contradicts, witness.problem.is_empty()) {
        (true, _) => ", CONTRADICTS",
        (false, true) => "",
        (false, false) => ", does not cosign now",
    };
    format!("witness {}  {cosigned}{state}\n", name(witness))
}

/// The same for programs.
pub(super) fn json(witness: &WitnessStatus) -> Value {
    json!({
        "name": witness.name,
        "size": witness.size,
        "time": witness.time,
        "problem": witness.problem,
        "contradicts": witness.contradicts,
    })
}

fn name(witness: &WitnessStatus) -> String {
    shown(witness.name.as_bytes(), 200)
}
