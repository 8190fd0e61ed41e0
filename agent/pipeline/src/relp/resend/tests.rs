use super::*;
use proptest::prelude::*;

const CLIENT: &str = "web-1";

fn digest(message: u32) -> Digest {
    Digest::of(&message.to_be_bytes())
}

/// A session as the driver has it.
struct Server {
    id: SessionId,
    held: Vec<u32>,
}

/// What is stored, and how far it is durable.
struct Store {
    tails: Tails,
    stored: Vec<(u32, Place)>,
    durable: usize,
}

impl Store {
    fn new(window: usize) -> Self {
        Store { tails: Tails::new(window, vec![]).0, stored: vec![], durable: 0 }
    }

    fn open(&mut self) -> Server {
        Server { id: self.tails.open(CLIENT.into()), held: vec![] }
    }

    /// Takes a message; answers with how many are decided that were held.
    fn take(&mut self, server: &mut Server, message: u32) -> usize {
        server.held.push(message);
        let verdict = self.tails.judge(server.id, digest(message));
        self.obey(server, verdict)
    }

    fn give_up(&mut self, server: &mut Server) -> usize {
        let verdict = self.tails.give_up(server.id);
        self.obey(server, verdict)
    }

    fn obey(&mut self, server: &mut Server, verdict: Verdict) -> usize {
        let copies = match verdict {
            Verdict::Undecided | Verdict::Replaced => return 0,
            Verdict::New => 0,
            Verdict::Copies { count, .. } => count,
        };
        let decided = server.held.len();
        for message in server.held.drain(..).skip(copies) {
            let place = self.tails.store(server.id, digest(message)).unwrap();
            self.stored.push((message, place));
        }
        decided
    }

    fn sync(&mut self, upto: usize) {
        for (_, place) in &self.stored[self.durable..upto] {
            self.tails.settled(*place);
        }
        self.durable = upto;
    }

    /// kill -9: only what is durable is there, in records and in bookmarks.
    fn crash(&mut self) {
        self.stored.truncate(self.durable);
        let window = self.tails.window();
        let mut known: BTreeMap<Arc<[u8]>, Vec<u8>> = BTreeMap::new();
        // Bookmarks say what their records say, so they are made from these.
        let keys: BTreeMap<TailId, Arc<[u8]>> =
            self.tails.tails.iter().map(|(id, tail)| (*id, Arc::clone(&tail.key))).collect();
        let before: BTreeMap<_, _> = self.tails.known().into_iter().collect();
        for (id, tail) in &self.tails.tails {
            let lost = (tail.stored - tail.durable) as usize * DIGEST;
            let value = &before[&keys[id]];
            known.insert(Arc::clone(&keys[id]), value[..value.len().saturating_sub(lost)].to_vec());
        }
        self.tails = Tails::new(window, known.into_iter().collect()).0;
    }

    fn messages(&self) -> Vec<u32> {
        self.stored.iter().map(|(message, _)| *message).collect()
    }
}

/// Sends `messages` in one go, and breaks.
fn broken_after(store: &mut Store, messages: &[u32]) {
    let mut server = store.open();
    messages.iter().for_each(|message| {
        store.take(&mut server, *message);
    });
    let all = store.stored.len();
    store.sync(all);
    assert!(store.tails.abandon(server.id).is_empty());
}

#[test]
fn what_is_sent_again_after_a_break_is_stored_once() {
    for crash in [false, true] {
        let mut store = Store::new(4096);
        broken_after(&mut store, &[1, 2, 3, 4]);
        if crash {
            store.crash();
        }
        let mut server = store.open();
        let decided: Vec<usize> = [3, 4, 5].map(|m| store.take(&mut server, m)).to_vec();
        assert_eq!((decided, store.messages()), (vec![0, 2, 1], vec![1, 2, 3, 4, 5]));
        // The tail goes on: the next break needs what was taken over and what was added.
        store.sync(5);
        store.tails.abandon(server.id);
        broken_after(&mut store, &[4, 5, 6]);
        assert_eq!(store.messages(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(store.tails.known().len(), 1);
    }
}

#[test]
fn a_run_that_breaks_off_is_new_and_one_that_nothing_follows_is_stored() {
    let mut store = Store::new(4096);
    broken_after(&mut store, &[1, 2, 3, 4]);
    broken_after(&mut store, &[2, 3, 9]);
    assert_eq!(store.messages(), [1, 2, 3, 4, 2, 3, 9]);
    let mut server = store.open();
    assert_eq!(store.take(&mut server, 1), 0);
    assert_eq!(store.give_up(&mut server), 1);
    assert_eq!(store.take(&mut server, 2), 1, "what follows is new as well");
    assert_eq!(store.messages()[7..], [1, 2]);
}

#[test]
fn of_several_runs_the_longest_counts() {
    let mut store = Store::new(4096);
    broken_after(&mut store, &[7, 8, 7, 8]);
    let mut server = store.open();
    let decided = [7, 8, 7, 8, 9].map(|message| store.take(&mut server, message));
    assert_eq!((decided, store.messages()), ([0, 0, 0, 4, 1], vec![7, 8, 7, 8, 9]));
    let mut store = Store::new(4096);
    broken_after(&mut store, &[7, 8, 7, 8]);
    let mut server = store.open();
    let decided = [7, 8, 7, 9].map(|message| store.take(&mut server, message));
    assert_eq!((decided, store.messages()[4..].to_vec()), ([0, 0, 0, 4], vec![7, 9]));
}

#[test]
fn a_long_run_is_believed_before_its_end() {
    let mut store = Store::new(4096);
    let all: Vec<u32> = (0..1000).collect();
    broken_after(&mut store, &all);
    let mut server = store.open();
    let mut decided = 0;
    for (sent, message) in (100..1010).enumerate() {
        decided += store.take(&mut server, message);
        assert!(sent + 1 - decided < ENOUGH, "a client's window must not be full before");
    }
    assert_eq!(store.messages(), (0..1010).collect::<Vec<_>>());
}

#[test]
fn a_session_whose_connection_is_dead_is_replaced() {
    let mut store = Store::new(4096);
    let mut dead = store.open();
    [1, 2, 3].iter().for_each(|message| {
        store.take(&mut dead, *message);
    });
    let mut server = store.open();
    assert_eq!(store.tails.judge(server.id, digest(2)), Verdict::Undecided);
    let original = Some(store.stored[2].1);
    let verdict = store.tails.judge(server.id, digest(3));
    assert_eq!(verdict, Verdict::Copies { count: 2, original });
    assert_eq!(store.tails.replaced().collect::<Vec<_>>(), [dead.id]);
    let original = store.stored[2].1;
    assert!(!store.tails.is_settled(original));
    assert_eq!(store.tails.judge(dead.id, digest(4)), Verdict::Replaced);
    assert_eq!(store.tails.store(dead.id, digest(4)), None);
    store.tails.settled(original);
    assert!(store.tails.is_settled(original), "whoever waits for it may be told");
    assert_eq!(store.take(&mut server, 4), 1);
    assert!(store.tails.abandon(dead.id).is_empty());
    assert_eq!(store.messages(), [1, 2, 3, 4]);
}

#[test]
fn what_a_dead_session_holds_or_waits_with_is_forgotten() {
    let mut store = Store::new(4096);
    broken_after(&mut store, &[1, 2, 3]);
    let mut dead = store.open();
    assert_eq!(store.take(&mut dead, 2), 0);
    let mut server = store.open();
    let decided = [2, 3, 4].map(|message| store.take(&mut server, message));
    assert_eq!((decided, store.give_up(&mut dead)), ([0, 2, 1], 0));
    assert_eq!(store.messages(), [1, 2, 3, 4]);
    // That one has received a message and waits for room when its client gives it up.
    store.tails.wait(server.id, Some(digest(5)));
    let mut next = store.open();
    assert_eq!(store.take(&mut next, 5), 1);
    assert_eq!(store.tails.store(server.id, digest(5)), None);
    assert_eq!(store.messages(), [1, 2, 3, 4, 5]);
}

#[test]
fn a_session_that_is_alive_keeps_its_tail() {
    let mut store = Store::new(4096);
    let (mut one, mut two) = (store.open(), store.open());
    store.take(&mut one, 1);
    assert_eq!(store.take(&mut two, 1), 1, "it spoke after the other one began: it is alive");
    assert_eq!(store.messages(), [1, 1]);
    // Another client's tails are nobody else's business.
    let other = store.tails.open("web-2".into());
    assert_eq!(store.tails.judge(other, digest(1)), Verdict::New);
}

#[test]
fn a_closed_session_leaves_nothing_and_orphans_are_bounded() {
    let mut store = Store::new(4096);
    let mut server = store.open();
    store.take(&mut server, 1);
    assert_eq!(store.tails.close(server.id).len(), 1);
    assert!(store.tails.known().is_empty());
    let mut server = store.open();
    assert_eq!(store.take(&mut server, 1), 1, "nothing of a closed session is sent again");
    store.tails.close(server.id);
    let mut dropped = 0;
    for message in 0..1000 {
        let id = store.tails.open(format!("client {}", message % 100).into());
        store.tails.judge(id, digest(message));
        store.tails.store(id, digest(message)).unwrap();
        dropped += store.tails.abandon(id).len();
    }
    assert_eq!((store.tails.tails.len(), dropped), (ORPHANS, 1000 - ORPHANS));
    assert!(store.tails.sessions.is_empty());
    for message in 0..20 {
        let id = store.tails.open(CLIENT.into());
        store.tails.judge(id, digest(message));
        store.tails.store(id, digest(message)).unwrap();
        store.tails.abandon(id);
    }
    let of_client = store.tails.tails.values().filter(|tail| *tail.client == *CLIENT).count();
    assert_eq!(of_client, ORPHANS_PER_CLIENT);
    let id = store.tails.open(CLIENT.into());
    store.tails.judge(id, digest(5000));
    let missed: usize = (0..CHANCES).map(|_| store.tails.missed(id).len()).sum();
    assert_eq!(missed, ORPHANS_PER_CLIENT, "what nobody sends again is not kept for ever");
}

/// What happens to a session.
#[derive(Clone, Debug)]
struct Life {
    /// How many messages reach the server.
    arrive: usize,
    /// How many of the stored ones become durable.
    synced: usize,
    /// How many answers reach the client.
    answered: usize,
    /// How it ends: the agent is killed, or only the connection breaks.
    killed: bool,
}

fn life() -> impl Strategy<Value = Life> {
    (0usize..60, 0usize..60, 0usize..60, any::<bool>())
        .prop_map(|(arrive, synced, answered, killed)| Life { arrive, synced, answered, killed })
}

/// A client as librelp's: all that has no answer is sent again first, then what is new.
fn live(messages: &[u32], window: usize, lives: Vec<Life>) -> Vec<u32> {
    let mut store = Store::new(4096);
    let (mut unanswered, mut newest) = (0, 0);
    let end = Life { arrive: usize::MAX, synced: usize::MAX, answered: usize::MAX, killed: false };
    for life in lives.into_iter().chain([end]) {
        let mut server = store.open();
        let (begin, mut sent, mut decided) = (unanswered, unanswered, unanswered);
        while sent - begin < life.arrive && sent < messages.len() {
            // The window counts for new messages only.
            if sent >= newest && sent - unanswered >= window {
                if decided == unanswered {
                    decided += store.give_up(&mut server);
                }
                store.sync(store.stored.len());
                unanswered = decided;
            }
            decided += store.take(&mut server, messages[sent]);
            sent += 1;
        }
        newest = newest.max(sent);
        if life.arrive == usize::MAX {
            decided += store.give_up(&mut server);
            assert_eq!(decided, messages.len());
        }
        let durable = store.durable.saturating_add(life.synced).min(store.stored.len());
        store.sync(durable);
        // An answer goes out only for what is durable; all of the copies are.
        let not_durable = store.stored.len() - durable;
        let answerable = decided.saturating_sub(unanswered).saturating_sub(not_durable);
        unanswered += life.answered.min(answerable);
        match life.killed {
            true => store.crash(),
            false => drop(store.tails.abandon(server.id)),
        }
    }
    store.messages()
}

proptest! {
    #[test]
    fn messages_that_differ_are_stored_exactly_once_in_order(
        count in 0u32..300,
        window in 20usize..70,
        lives in proptest::collection::vec(life(), 0..25),
    ) {
        let messages: Vec<u32> = (0..count).collect();
        prop_assert_eq!(live(&messages, window, lives), messages);
    }

    #[test]
    fn of_messages_that_repeat_none_is_lost_altogether(
        messages in proptest::collection::vec(0u32..12, 0..200),
        lives in proptest::collection::vec(life(), 0..12),
    ) {
        let stored = live(&messages, 64, lives);
        // First appearances are all there, in order.
        let firsts = |all: &[u32]| {
            let mut seen = Vec::new();
            all.iter().for_each(|message| if !seen.contains(message) { seen.push(*message) });
            seen
        };
        prop_assert_eq!(firsts(&stored), firsts(&messages));
    }
}
