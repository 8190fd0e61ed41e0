//! Declarations: agreed to before they are proposed or voted for, and given up when others do not agree.

use super::{Event, Objection, Output, Replica};
use crate::{
    engine::EngineError,
    execute::{ExecuteError, may_declare},
    members::NodeIndex,
    message::{BodyKind, Message},
    now::Now,
};
use bytes::Bytes;
use record::{batch::SealedBatch, declaration::Declaration};

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
        if !self.pool.put_declaration(declaration, true) {
            return Ok(Err("it waits for a decision already".to_owned()));
        }
        self.mine.push_back((digest, now.ticks));
        self.send(None, Message::Body(BodyKind::Declaration, encoded));
        self.body_arrived(digest)?;
        Ok(Ok(()))
    }

    pub(super) fn take_declaration(&mut self, from: NodeIndex, bytes: &[u8]) -> bool {
        let Ok(declaration) = Declaration::decode(bytes) else {
            self.fault(from, "a declaration that cannot be read");
            return false;
        };
        match self.agrees(&declaration) {
            Ok(()) => self.pool.put_declaration(declaration, false),
            Err(Disagreement::Objection(Objection::Unsigned)) => {
                self.fault(from, Objection::Unsigned.to_string());
                false
            }
            Err(problem) => {
                let (word, problem) = (declaration.matter.word(), problem.to_string());
                self.event(Event::Disagreed { peer: from, word, problem });
                false
            }
        }
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
