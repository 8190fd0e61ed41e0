//! Declarations: agreed to before they are proposed or voted for, and given up when others do not agree. What a quorum
//! prevoted is voted for in spite of an objection, or a few who object could hold the ledger up.

use super::{Event, Objection, Output, Replica};
use crate::{
    engine::EngineError,
    execute::{ExecuteError, may_declare},
    members::NodeIndex,
    message::{BodyKind, Message},
    now::Now,
    pool::View,
};
use bytes::Bytes;
use record::{Hash, batch::SealedBatch, declaration::Declaration};

/// Why this node does not agree to a declaration.
#[derive(Debug, thiserror::Error)]
pub(super) enum Disagreement {
    #[error(transparent)]
    Ledger(#[from] ExecuteError),
    #[error(transparent)]
    Objection(#[from] Objection),
}

impl Replica {
    /// Takes a declaration that an operator brought here. [`Output::Declined`] follows if it is not decided on.
    ///
    /// # Errors
    /// In the outer result, when the process must stop; in the inner one, why this node does not agree to it.
    pub fn handle_declaration(
        &mut self,
        now: Now,
        declaration: Declaration,
    ) -> Result<Result<(), String>, EngineError> {
        self.now = now;
        if let Err(problem) = self.agrees(&declaration) {
            return Ok(Err(problem.to_string()));
        }
        let encoded: Bytes = declaration.encode().into();
        let digest = SealedBatch::digest(&encoded);
        if !self.pool.put_declaration(declaration, View::Brought) {
            return Ok(Err("it waits for a decision already".to_owned()));
        }
        self.mine.push_back((digest, now.ticks));
        self.send(None, Message::Body(BodyKind::Declaration, encoded));
        self.body_arrived(digest)?;
        Ok(Ok(()))
    }

    /// Takes a declaration that another node took; `false` if it is here, or cannot be decided on. Then blocks that wait
    /// for it are refused at once: waiting for the end of the round would help nobody. One that only this node
    /// objects to is kept, for a block that a quorum prevoted.
    pub(super) fn take_declaration(
        &mut self,
        from: NodeIndex,
        digest: Hash,
        bytes: &[u8],
    ) -> Result<bool, EngineError> {
        let Ok(declaration) = Declaration::decode(bytes) else {
            self.fault(from, "a declaration that cannot be read");
            return Ok(false);
        };
        let Err(problem) = self.agrees(&declaration) else {
            return Ok(self.pool.put_declaration(declaration, View::Agreed));
        };
        let (word, text) = (declaration.matter.word(), problem.to_string());
        match problem {
            Disagreement::Objection(Objection::Unsigned) => self.fault(from, text.clone()),
            Disagreement::Objection(Objection::Policy(_)) => {
                self.event(Event::Disagreed { peer: from, word, problem: text });
                return Ok(self.pool.put_declaration(declaration, View::Objected));
            }
            Disagreement::Ledger(_) => {
                self.event(Event::Disagreed { peer: from, word, problem: text.clone() });
            }
        }
        self.refuse_waiting(digest, &text)?;
        Ok(false)
    }

    /// Why this node objects to one of these declarations, which are all here, if it still does.
    pub(super) fn objection(&self, digests: &[Hash]) -> Option<String> {
        let objected = digests.iter().filter(|digest| self.pool.is_objected(digest));
        let mut found = objected.filter_map(|digest| self.pool.declaration(digest));
        found.find_map(|(declaration, _)| Some(self.agrees(&declaration).err()?.to_string()))
    }

    /// Whether this node agrees to a declaration as things are now.
    pub(super) fn agrees(&self, declaration: &Declaration) -> Result<(), Disagreement> {
        let state = &self.state;
        may_declare(state, self.now.wall.max(state.time), declaration)?;
        Ok(self.vouch.declaration(declaration, state)?)
    }

    /// Gives up declarations that cannot be decided on any more.
    pub(super) fn drop_declarations(&mut self) {
        let (state, time) = (&self.state, self.now.wall.max(self.state.time));
        let holds = |declaration: &Declaration| {
            may_declare(state, time, declaration).map_err(|error| error.to_string())
        };
        for (digest, why) in self.pool.drop_declarations(holds) {
            self.mine.retain(|(other, _)| *other != digest);
            self.out.push_back(Output::Declined { digest, why });
        }
    }
}
