//! The decisions, one by one, without a file system.

use pipeline::line::Fingerprint;

use super::*;

const GRACE: Duration = Duration::from_secs(5);

fn node(inode: u64) -> Node {
    Node { device: 1, inode }
}

fn position(inode: u64, head: &[u8], offset: u64) -> FilePosition {
    let fingerprint = Fingerprint::of(head);
    FilePosition { file: FileId { device: 1, inode, fingerprint }, offset }
}

fn found(path: &str, inode: u64, size: u64) -> Found {
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000 - inode);
    let matched = path.ends_with(".log");
    Found { path: path.into(), node: node(inode), size, modified, matched, packed: false }
}

fn tracker(known: &[FilePosition]) -> Tracker {
    Tracker::new(known.iter().copied(), Start::Beginning, GRACE, 3)
}

/// Runs a pass, opens what it says, and answers with what was opened.
fn pass(tracker: &mut Tracker, now: Instant, found: &[Found]) -> Vec<String> {
    let mut opened = Vec::new();
    for action in tracker.pass(now, found, &[]) {
        match action {
            Action::Open(opening) => {
                tracker.place(opening.node, 0, b"");
                tracker.open(&opening, now);
                let how = if opening.rotated { "rest of " } else { "" };
                opened.push(format!("{how}{}", opening.path.display()));
            }
            Action::Park(node) => opened.push(format!("park {}", node.inode)),
            Action::Forget { position, fully_read } => {
                opened.push(format!("forget {} {fully_read}", position.file.inode));
            }
        }
    }
    opened
}

#[test]
fn the_rest_of_rotated_files_comes_first_and_the_oldest_of_them_before_all() {
    let known = [position(1, b"", 0), position(2, b"", 0), position(3, b"", 0)];
    let mut tracker = Tracker::new(known, Start::Beginning, GRACE, 10);
    let files = [
        found("/a.log", 9, 5),
        found("/a.log.1", 1, 5),
        found("/a.log.2", 2, 5),
        found("/b.log", 3, 5),
        found("/alien", 4, 5),
    ];
    let now = Instant::now();
    let opened = pass(&mut tracker, now, &files);
    assert_eq!(opened, ["rest of /a.log.2", "rest of /a.log.1", "/b.log", "/a.log"]);
    assert_eq!(tracker.order(), [node(2), node(1), node(3), node(9)]);
    assert_eq!(pass(&mut tracker, now, &files), [""; 0], "nothing is opened twice");
}

#[test]
fn a_file_that_was_rotated_away_is_complete_only_when_it_is_read_and_quiet() {
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let mut tracker = tracker(&[]);
    pass(&mut tracker, start, &[found("/a.log", 1, 5)]);
    tracker.read(node(1), start, true, Reached::End);
    assert!(!tracker.is_complete(node(1), start + 60 * second), "it still has its name");

    let away = start + 60 * second;
    pass(&mut tracker, away, &[]);
    assert!(tracker.is_away(node(1)) && !tracker.is_complete(node(1), away));
    tracker.read(node(1), away + 4 * second, true, Reached::PartialLine);
    assert!(!tracker.is_complete(node(1), away + 8 * second), "somebody still writes to it");
    assert!(tracker.is_complete(node(1), away + 9 * second));
    tracker.read(node(1), away + 9 * second, false, Reached::More);
    assert!(!tracker.is_complete(node(1), away + 60 * second), "it is not read");

    tracker.read(node(1), away + 9 * second, false, Reached::End);
    pass(&mut tracker, away + 10 * second, &[found("/b.log", 1, 5)]);
    assert!(!tracker.is_away(node(1)), "it has a name again");
}

#[test]
fn a_directory_that_cannot_be_read_does_not_make_its_files_look_rotated() {
    let now = Instant::now();
    let mut tracker = tracker(&[position(7, b"", 3)]);
    pass(&mut tracker, now, &[found("/x/a.log", 1, 5)]);
    for _ in 0..5 {
        assert_eq!(tracker.pass(now, &[], &["/x".into()]), []);
    }
    assert!(!tracker.is_away(node(1)));
    assert!(tracker.wanted().contains(&node(7)), "nothing is forgotten either");
    tracker.pass(now, &[], &["/y".into()]);
    assert!(tracker.is_away(node(1)));
}

#[test]
fn a_known_file_is_forgotten_only_when_two_passes_did_not_see_it() {
    let now = Instant::now();
    let mut tracker = tracker(&[position(1, b"", 3), position(2, b"", 3)]);
    assert_eq!(pass(&mut tracker, now, &[]), [""; 0]);
    let opened = pass(&mut tracker, now, &[found("/a.log", 1, 5)]);
    assert_eq!(opened, ["forget 2 false", "/a.log"]);
    assert_eq!(pass(&mut tracker, now, &[]), [""; 0]);
}

#[test]
fn a_file_is_resumed_only_when_it_is_the_same() {
    let known = [position(1, b"one\n", 4), position(1, b"one\ntwo\n", 6), position(2, b"x", 1)];
    let place = |size, head: &[u8]| tracker(&known).place(node(1), size, head);
    let grown = place(20, b"one\ntwo\nthree\n");
    assert_eq!(grown, Place { resume: Some(known[1]), gone: vec![(known[0], false)] });
    let other = place(20, b"two\none\n");
    assert_eq!(other, Place { resume: None, gone: vec![(known[1], false), (known[0], false)] });
    let truncated = place(5, b"one\ntwo\n");
    assert_eq!(truncated, Place { resume: Some(known[0]), gone: vec![(known[1], false)] });
    let empty = place(0, b"");
    assert_eq!(empty.resume, None);
}

#[test]
fn more_files_than_may_be_open_are_all_read_in_turn() {
    let start = Instant::now();
    let mut tracker = tracker(&[]);
    let files: Vec<_> = (1..=5).map(|inode| found(&format!("/{inode}.log"), inode, 5)).collect();
    assert_eq!(pass(&mut tracker, start, &files), ["/5.log", "/4.log", "/3.log"]);
    assert_eq!(tracker.waiting(), 2);
    assert_eq!(pass(&mut tracker, start + GRACE, &files), [""; 0], "none is read to its end yet");

    tracker.read(node(5), start, true, Reached::End);
    tracker.read(node(4), start, true, Reached::PartialLine);
    tracker.read(node(3), start + GRACE, true, Reached::End);
    let actions = tracker.pass(start + GRACE, &files, &[]);
    assert!(matches!(&actions[..], [Action::Park(parked), Action::Open(opening)]
        if *parked == node(5) && opening.node == node(2)));
    assert!(tracker.park(position(5, b"", 5), Parked::of(&files[4])));
    let Action::Open(opening) = &actions[1] else { unreachable!() };
    tracker.open(opening, start + GRACE);
    assert_eq!(tracker.waiting(), 1);

    tracker.close(node(2));
    let mut left: Vec<_> = files.into_iter().filter(|file| file.node != node(2)).collect();
    assert_eq!(pass(&mut tracker, start + GRACE, &left), ["/1.log"], "a parked file can wait");
    tracker.close(node(1));
    left.retain(|file| file.node != node(1));
    left[2].size = 6;
    let actions = tracker.pass(start + GRACE, &left, &[]);
    assert!(actions.iter().any(|action| matches!(action, Action::Open(o) if o.node == node(5))));
    assert_eq!(tracker.place(node(5), 6, b"").resume, Some(position(5, b"", 5)));
}

#[test]
fn a_parked_file_that_is_rotated_is_read_on_when_it_grows_and_known_while_it_exists() {
    let now = Instant::now();
    let mut tracker = tracker(&[]);
    tracker.adopt(position(5, b"", 5), Some(Parked::of(&found("/5.log.1", 5, 5))));
    assert_eq!(pass(&mut tracker, now, &[found("/5.log.1", 5, 5)]), [""; 0]);
    assert!(tracker.is_known(node(5)));
    assert_eq!(pass(&mut tracker, now, &[found("/5.log.1", 5, 6)]), ["rest of /5.log.1"]);
    tracker.adopt(position(5, b"", 6), Some(Parked::of(&found("/5.log.1", 5, 6))));
    assert_eq!(pass(&mut tracker, now, &[]), [""; 0]);
    assert_eq!(tracker.missing().count(), 1);
    assert_eq!(pass(&mut tracker, now, &[]), ["forget 5 true"]);
    assert!(!tracker.is_known(node(5)));
}

#[test]
fn of_files_that_were_rotated_away_so_many_are_remembered_and_no_more() {
    let now = Instant::now();
    let mut tracker = tracker(&[]);
    let opening = |inode| {
        let file = found("/a.log.1", inode, 5);
        Opening::of(&file, Start::Beginning)
    };
    let mut park = |inode| {
        tracker.open(&opening(inode), now);
        tracker.park(position(inode, b"", 5), Parked::of(&found("/a.log.1", 900, 5)))
    };
    assert!((0..MAX_REMEMBERED as u64).all(&mut park));
    assert!(!park(MAX_REMEMBERED as u64));
    assert_eq!(tracker.wanted().len(), MAX_REMEMBERED);
}

#[test]
fn a_compressed_file_is_opened_only_for_what_is_known_to_be_in_it() {
    let now = Instant::now();
    let packed = Found { packed: true, ..found("/a.gz.log", 5, 5) };
    let mut unknown = tracker(&[]);
    assert_eq!(pass(&mut unknown, now, std::slice::from_ref(&packed)), [""; 0]);
    let mut known = tracker(&[position(5, b"", 900)]);
    assert_eq!(pass(&mut known, now, std::slice::from_ref(&packed)), ["rest of /a.gz.log"]);
    known.read(node(5), now, true, Reached::End);
    pass(&mut known, now, &[packed]);
    assert!(known.is_complete(node(5), now + GRACE), "it cannot grow, although it matches");
}

#[test]
fn only_files_that_were_there_before_the_first_start_are_skipped() {
    let now = Instant::now();
    let starts = |tracker: &mut Tracker, files: &[Found]| -> Vec<Start> {
        let actions = tracker.pass(now, files, &[]).into_iter();
        let opening = |action| if let Action::Open(o) = action { Some(o.start) } else { None };
        actions.filter_map(opening).collect()
    };
    let (old, new) = (found("/a.log", 1, 5), found("/b.log", 2, 5));
    let mut first = Tracker::new([], Start::End, GRACE, 3);
    assert_eq!(starts(&mut first, std::slice::from_ref(&old)), [Start::End]);
    let mut first = Tracker::new([], Start::End, GRACE, 3);
    assert_eq!(starts(&mut first, &[]), []);
    assert_eq!(starts(&mut first, std::slice::from_ref(&new)), [Start::Beginning]);
    let mut later = Tracker::new([position(1, b"", 5)], Start::End, GRACE, 3);
    assert_eq!(starts(&mut later, &[old, new]), [Start::Beginning, Start::Beginning]);
}
