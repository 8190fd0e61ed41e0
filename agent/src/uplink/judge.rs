//! Pure: what the ledger's first answer means for this agent.

use std::path::PathBuf;

use link::message::{AgentState, PROTOCOL, Welcome};
use record::{
    AgentName, Hash, Origin, TreeSize, UnixSeconds, crypto::PublicKey, entry::Enterprise,
    note::VerifierKey, seal::agent_vkey,
};

use super::trouble::Trouble;

/// The ledger and this agent's spool contradict each other: going on could give two records one
/// number, or two roots one size. A person must decide.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// The spool is empty, the log in the ledger is not.
    #[error(
        "the ledger holds {next} records of agent '{agent}', sealed until {sealed}, while the spool in {} is empty. \
         A log never starts again at 0. Restore the spool directory from a backup; or, if it is lost, give this machine a \
         new agent name, certificate and key and enrol that", spool.display()
    )]
    LogExists {
        /// The agent.
        agent: AgentName,
        /// Its records in the ledger.
        next: u64,
        /// The time of its newest seal there.
        sealed: UnixSeconds,
        /// The empty spool.
        spool: PathBuf,
    },
    /// The spool is an older copy of itself.
    #[error(
        "the ledger holds {next} records of agent '{agent}', but the spool in {} ends at {end}: it is an older copy. \
         Restore the newest one; or, if it is lost, give this machine a new agent name, certificate and key and enrol that",
        spool.display()
    )]
    SpoolOld {
        /// The agent.
        agent: AgentName,
        /// Its records in the ledger.
        next: u64,
        /// Where the spool ends.
        end: u64,
        /// The spool.
        spool: PathBuf,
    },
    /// The spool and the ledger hold different records under the same numbers.
    #[error(
        "the ledger holds other records of agent '{agent}' than the spool in {} at record {at}: an older copy of the \
         spool was started, or another machine used this agent's key. Keep the directory as evidence, restore the newest \
         copy if there is one, or give this machine a new agent name, certificate and key and enrol that",
        spool.display()
    )]
    Diverged {
        /// The agent.
        agent: AgentName,
        /// The size of the log at which the two differ.
        at: u64,
        /// The spool.
        spool: PathBuf,
    },
    /// Another key is enrolled.
    #[error(
        "the key enrolled for agent '{agent}' is '{enrolled}', but this machine's key is '{ours}': restore the key file \
         that belongs to this name; or give this machine a new agent name, certificate and key and enrol that"
    )]
    Key {
        /// The agent.
        agent: AgentName,
        /// The ledger's vkey of it.
        enrolled: Box<VerifierKey>,
        /// Ours.
        ours: Box<VerifierKey>,
    },
    /// The spool can no longer be read.
    #[error("the spool can no longer be read: {0}")]
    Spool(String),
}

/// What the agent knows of itself.
#[derive(Clone, Debug)]
pub struct Ours<'a> {
    /// Its name.
    pub agent: &'a AgentName,
    /// Its verifier key.
    pub vkey: &'a VerifierKey,
    /// Its ledger.
    pub origin: &'a Origin,
    /// The enterprise number of its elements.
    pub enterprise: Enterprise,
    /// The spool's directory.
    pub spool: &'a PathBuf,
    /// Its log, if that has begun.
    pub log: Option<OurLog>,
}

/// Where the agent's own log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OurLog {
    /// Everything in front of this size has verified receipts.
    pub base: TreeSize,
    /// The root at that size, where it is known.
    pub root: Option<Hash>,
    /// The size behind the last durable batch.
    pub end: TreeSize,
}

/// Judges a node's welcome. What is returned fits this agent's log.
///
/// # Errors
/// Why no batch can be handed to this node.
pub fn judge(welcome: &Welcome, ours: &Ours<'_>) -> Result<AgentState, Trouble> {
    if welcome.protocol != PROTOCOL {
        return Err(Trouble::Protocol { theirs: welcome.protocol });
    }
    if welcome.origin != ours.origin.as_str() {
        let (theirs, ours) = (welcome.origin.clone(), ours.origin.clone());
        return Err(Trouble::Origin { theirs, ours });
    }
    if welcome.enterprise != ours.enterprise.0 {
        return Err(Trouble::Enterprise { theirs: welcome.enterprise, ours: ours.enterprise.0 });
    }
    let Some(agent) = &welcome.agent else {
        let (agent, vkey) = (ours.agent.clone(), Box::new(ours.vkey.clone()));
        return Err(Trouble::NotEnrolled { agent, vkey });
    };
    if agent.key != ours.vkey.public().0 {
        let enrolled = agent_vkey(ours.origin, ours.agent, PublicKey(agent.key));
        return Err(Trouble::Stop(StopReason::Key {
            agent: ours.agent.clone(),
            enrolled: Box::new(enrolled),
            ours: Box::new(ours.vkey.clone()),
        }));
    }
    judge_log(agent, ours)?;
    Ok(agent.clone())
}

fn judge_log(theirs: &AgentState, ours: &Ours<'_>) -> Result<(), Trouble> {
    let (agent, spool) = (ours.agent.clone(), ours.spool.clone());
    let Some(log) = ours.log else {
        if theirs.next == 0 {
            return Ok(());
        }
        let (next, sealed) = (theirs.next, UnixSeconds(theirs.sealed));
        return Err(StopReason::LogExists { agent, next, sealed, spool }.into());
    };
    if theirs.next > log.end.0 {
        let (next, end) = (theirs.next, log.end.0);
        return Err(StopReason::SpoolOld { agent, next, end, spool }.into());
    }
    if theirs.next < log.base.0 {
        return Err(Trouble::Behind { next: theirs.next, base: log.base.0 });
    }
    let differs = |root: Hash| root.0 != theirs.root;
    if theirs.next == log.base.0 && log.root.is_some_and(differs) {
        return Err(StopReason::Diverged { agent, at: theirs.next, spool }.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::{crypto::SigningKey, merkle::empty_root};
    use zeroize::Zeroizing;

    struct Case {
        agent: AgentName,
        vkey: VerifierKey,
        origin: Origin,
        spool: PathBuf,
    }

    impl Case {
        fn new() -> Self {
            let (agent, origin): (AgentName, Origin) =
                ("gw01".parse().unwrap(), "l.example/x".parse().unwrap());
            let key = SigningKey::from_seed(&Zeroizing::new([4; 32])).public();
            let vkey = agent_vkey(&origin, &agent, key);
            Case { agent, vkey, origin, spool: "/var/lib/spool".into() }
        }

        fn judge(&self, welcome: &Welcome, log: Option<OurLog>) -> Result<AgentState, String> {
            let Case { agent, vkey, origin, spool } = self;
            let enterprise = Enterprise::default();
            let ours = Ours { agent, vkey, origin, enterprise, spool, log };
            judge(welcome, &ours).map_err(|trouble| trouble.to_string())
        }

        fn welcome(&self, next: u64) -> Welcome {
            let state = AgentState {
                key: self.vkey.public().0,
                next,
                root: empty_root().0,
                sealed: 1_795_248_147,
            };
            Welcome {
                protocol: PROTOCOL,
                node: "n1".into(),
                origin: self.origin.to_string(),
                enterprise: 32_473,
                agent: Some(state),
            }
        }
    }

    fn log(base: u64, end: u64) -> Option<OurLog> {
        Some(OurLog { base: TreeSize(base), root: None, end: TreeSize(end) })
    }

    #[test]
    fn a_log_begins_only_where_the_ledger_has_none() {
        let case = Case::new();
        assert!(case.judge(&case.welcome(0), None).is_ok());
        let said = case.judge(&case.welcome(812), None).unwrap_err();
        for part in [
            "812 records",
            "'gw01'",
            "2026-11-21T08:02:27Z",
            "/var/lib/spool is empty",
            "never starts again at 0",
            "Restore",
            "new agent name",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn an_older_copy_of_the_spool_is_refused_with_both_numbers() {
        let case = Case::new();
        let said = case.judge(&case.welcome(900), log(0, 800)).unwrap_err();
        assert!(
            said.contains("900") && said.contains("800") && said.contains("older copy"),
            "{said}"
        );
        assert!(case.judge(&case.welcome(800), log(700, 800)).is_ok());
        assert!(case.judge(&case.welcome(700), log(700, 800)).is_ok());
    }

    #[test]
    fn a_node_that_lags_behind_our_receipts_is_passed_over() {
        let case = Case::new();
        let said = case.judge(&case.welcome(10), log(20, 30)).unwrap_err();
        assert!(said.contains("10") && said.contains("20"), "{said}");
    }

    #[test]
    fn another_history_at_the_same_size_is_noticed() {
        let case = Case::new();
        let root = Some(Hash([9; 32]));
        let log = Some(OurLog { base: TreeSize(7), root, end: TreeSize(9) });
        let said = case.judge(&case.welcome(7), log).unwrap_err();
        assert!(said.contains("other records") && said.contains("record 7"), "{said}");
    }

    #[test]
    fn another_enrolled_key_is_refused_with_both_vkeys() {
        let case = Case::new();
        let mut welcome = case.welcome(0);
        welcome.agent.as_mut().unwrap().key = [9; 32];
        let said = case.judge(&welcome, None).unwrap_err();
        let other = agent_vkey(&case.origin, &case.agent, PublicKey([9; 32])).to_string();
        assert!(said.contains(&other) && said.contains(&case.vkey.to_string()), "{said}");
    }

    #[test]
    fn an_agent_that_is_not_enrolled_is_told_the_command() {
        let case = Case::new();
        let said = case.judge(&Welcome { agent: None, ..case.welcome(0) }, None).unwrap_err();
        let command = format!("logseal enrol --agent gw01 --vkey '{}'", case.vkey);
        assert!(said.contains(&command), "{said}");
    }

    #[test]
    fn a_node_of_another_ledger_or_version_is_named() {
        let case = Case::new();
        let good = case.welcome(0);
        let said = |welcome: Welcome| case.judge(&welcome, None).unwrap_err();
        let origin = said(Welcome { origin: "other/x".into(), ..good.clone() });
        assert!(origin.contains("other/x") && origin.contains("l.example/x"), "{origin}");
        assert!(said(Welcome { enterprise: 5, ..good.clone() }).contains("enterprise = 5"));
        assert!(said(Welcome { protocol: 9, ..good }).contains("version 9"));
    }
}
