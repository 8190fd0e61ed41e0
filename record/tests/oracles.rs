//! Our formats, against what others wrote: the crates `signed_note` and `tlog_tiles` (ports of the
//! Go project's packages), in both directions, and the examples of the C2SP specifications.
#![allow(clippy::unwrap_used, reason = "a test's set-up may fail loudly")]

use logseal_record::{
    Checkpoint, Hash, TreeSize, UnixSeconds,
    cosignature::Cosignature,
    merkle::{
        EntryIndex, Frontier, NodeId, NodeSource, consistency_proof, inclusion_proof, leaf_hash,
        node_hash, root, verify_consistency, verify_inclusion,
    },
    note::{KeyName, NoteSigner, SignatureType, SignedNote, VerifierKey},
    policy::{Policy, TrustError},
    proof::TlogProof,
};
use proptest::prelude::*;
use signed_note::{
    Note, Signer, StandardSigner, StandardVerifier, Verifier, VerifierList, is_key_name_valid,
};
use zeroize::Zeroizing;

mod notes {
    use super::*;

    /// Texts of notes, most of them well-formed.
    fn text() -> impl Strategy<Value = String> {
        "([a-z0-9/+= é\u{2014}]{0,12}\n){1,5}"
    }

    fn name() -> impl Strategy<Value = String> {
        "[a-z./é\u{2014}]{1,12}"
    }

    fn keys(name: &str, seed: [u8; 32]) -> (NoteSigner, String) {
        let (name, seed): (KeyName, _) = (name.parse().unwrap(), Zeroizing::new(seed));
        let private = NoteSigner::encode_private(&name, SignatureType::Ed25519, &seed);
        (NoteSigner::new(name, SignatureType::Ed25519, &seed), private.trim().to_owned())
    }

    fn known(verifier: StandardVerifier) -> VerifierList {
        VerifierList::new(vec![Box::new(verifier)])
    }

    proptest! {
        #[test]
        fn what_we_sign_others_accept_and_what_they_sign_we_accept(
            text in text(), name in name(), seed: [u8; 32],
        ) {
            let (ours, private) = keys(&name, seed);
            let theirs = StandardSigner::new(&private).unwrap();
            let verifier = StandardVerifier::new(&ours.vkey().to_string()).unwrap();
            prop_assert_eq!(verifier.key_id(), ours.vkey().id().0);
            prop_assert_eq!(verifier.name(), name.as_str());

            let mut note = SignedNote::new(text.clone());
            note.put(ours.sign(&text, UnixSeconds(0)));
            let read = Note::from_bytes(note.to_string().as_bytes()).unwrap();
            prop_assert_eq!(read.text(), text.as_bytes());
            prop_assert!(read.verify(&known(verifier)).is_ok());

            let mut signed = Note::new(text.as_bytes(), &[]).unwrap();
            signed.add_sigs(&[&theirs as &dyn Signer]).unwrap();
            prop_assert_eq!(signed.to_bytes(), note.to_string().into_bytes());
            let read = SignedNote::parse(&signed.to_bytes()).unwrap();
            prop_assert_eq!(read.verify([ours.vkey()]).unwrap().len(), 1);
        }

        #[test]
        fn an_altered_note_is_refused_by_both_or_by_neither(
            text in text(), at: prop::sample::Index, byte: u8,
        ) {
            let (ours, _) = keys("l.example/x", [1; 32]);
            let mut note = SignedNote::new(text.clone());
            note.put(ours.sign(&text, UnixSeconds(0)));
            let mut bytes = note.to_string().into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;

            let verifier = StandardVerifier::new(&ours.vkey().to_string()).unwrap();
            let theirs = Note::from_bytes(&bytes).map(|n| n.verify(&known(verifier)).is_ok());
            let read = SignedNote::parse(&bytes).map(|n| n.verify([ours.vkey()]).is_ok());
            prop_assert_eq!(read.ok(), theirs.ok());
        }

        #[test]
        fn the_same_bytes_are_notes_to_both(note in "([a-c \n+]|\u{2014} |AAAA|Uw2Q|=|\t|\n\n|\u{2014} a AAAAAAAA\n){0,12}") {
            let ours = SignedNote::parse(note.as_bytes());
            let theirs = Note::from_bytes(note.as_bytes());
            prop_assert_eq!(ours.is_ok(), theirs.is_ok());
            if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
                prop_assert_eq!(ours.text().as_bytes(), theirs.text());
                prop_assert_eq!(ours.to_string().into_bytes(), theirs.to_bytes());
            }
        }

        #[test]
        fn the_same_names_are_key_names_to_both(name in "[a-z +\u{2003}\u{a0}é]{0,4}") {
            prop_assert_eq!(name.parse::<KeyName>().is_ok(), is_key_name_valid(&name));
        }

        #[test]
        fn a_mistyped_key_is_refused_by_both(at: prop::sample::Index, byte in 0x20u8..0x7f) {
            let mut vkey = keys("l.example/x", [1; 32]).0.vkey().to_string().into_bytes();
            let at = at.index(vkey.len());
            vkey[at] = byte;
            let vkey = String::from_utf8(vkey).unwrap();
            let (ours, theirs) = (vkey.parse::<VerifierKey>(), StandardVerifier::new(&vkey));
            // They read the digits of an ID in either case; we, as they are written.
            let lower = vkey.split('+').nth(1).is_some_and(|id| id == id.to_lowercase());
            prop_assert_eq!(ours.is_ok(), theirs.is_ok() && lower);
        }
    }
}

mod trees {
    use super::*;
    use tlog_tiles::{
        EMPTY_HASH, Error, HashReader, check_record, check_tree, prove_record, prove_tree,
        record_hash, stored_hashes, tree_hash,
    };

    /// Their tree: all hashes in the order in which they store them.
    #[derive(Default)]
    struct Stored(Vec<tlog_tiles::Hash>);

    impl HashReader for Stored {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, Error> {
            Ok(indexes.iter().map(|index| self.0[*index as usize]).collect())
        }
    }

    fn theirs(entries: &[Vec<u8>]) -> Stored {
        let mut stored = Stored::default();
        for (n, entry) in entries.iter().enumerate() {
            let new = stored_hashes(n as u64, entry, &stored).unwrap();
            stored.0.extend(new);
        }
        stored
    }

    /// Our tree, from leaf hashes.
    struct Leaves(Vec<Hash>);

    impl NodeSource for Leaves {
        type Error = std::convert::Infallible;

        fn node(&self, id: NodeId) -> Result<Hash, Self::Error> {
            if id.level == 0 {
                return Ok(self.0[id.index as usize]);
            }
            let (left, right) = id.children();
            Ok(node_hash(&self.node(left)?, &self.node(right)?))
        }
    }

    fn entries(n: usize) -> Vec<Vec<u8>> {
        (0..n).map(|i| format!("entry {i}").into_bytes()).collect()
    }

    fn ours(proof: &[tlog_tiles::Hash]) -> Vec<Hash> {
        proof.iter().map(|hash| Hash(hash.0)).collect()
    }

    fn other(proof: &[Hash]) -> Vec<tlog_tiles::Hash> {
        proof.iter().map(|hash| tlog_tiles::Hash(hash.0)).collect()
    }

    #[test]
    fn the_empty_tree_is_the_same_to_both() {
        assert_eq!(Frontier::default().root().0, EMPTY_HASH.0);
    }

    proptest! {
        #[test]
        fn both_find_the_same_root(n in 0usize..300) {
            let entries = entries(n);
            let theirs = tree_hash(n as u64, &theirs(&entries)).unwrap();
            let mut frontier = Frontier::default();
            entries.iter().for_each(|entry| frontier.push(leaf_hash(entry)));
            prop_assert_eq!(frontier.root().0, theirs.0);
            let leaves = Leaves(entries.iter().map(|entry| leaf_hash(entry)).collect());
            let Ok(root) = root(&leaves, TreeSize(n as u64));
            prop_assert_eq!(root.0, theirs.0);
        }

        #[test]
        fn an_inclusion_proof_of_either_convinces_the_other(
            n in 1usize..300, at: prop::sample::Index, bit in 0usize..256, victim: prop::sample::Index,
        ) {
            let (entries, at) = (entries(n), at.index(n) as u64);
            let (stored, size) = (theirs(&entries), n as u64);
            let leaves = Leaves(entries.iter().map(|entry| leaf_hash(entry)).collect());
            let Ok(root) = root(&leaves, TreeSize(size));
            let Ok(proof) = inclusion_proof(&leaves, EntryIndex(at), TreeSize(size));
            prop_assert_eq!(&proof, &ours(&prove_record(size, at, &stored).unwrap()));

            let leaf = leaf_hash(&entries[at as usize]);
            prop_assert_eq!(leaf.0, record_hash(&entries[at as usize]).0);
            let judge = |proof: &[Hash], index: u64, leaf: Hash| {
                let (theirs, hash) = (tlog_tiles::Hash(root.0), tlog_tiles::Hash(leaf.0));
                let theirs = check_record(&other(proof), size, theirs, index, hash).is_ok();
                let ours = verify_inclusion(proof, leaf, EntryIndex(index), TreeSize(size), root);
                (ours.is_ok(), theirs)
            };
            prop_assert_eq!(judge(&proof, at, leaf), (true, true));

            // Whatever is wrong with a proof, both see it.
            let elsewhere = victim.index(n) as u64;
            let right = elsewhere == at;
            prop_assert_eq!(judge(&proof, elsewhere, leaf), (right, right));
            let mut longer = proof.clone();
            longer.push(root);
            prop_assert_eq!(judge(&longer, at, leaf), (false, false));
            if !proof.is_empty() {
                let mut flipped = proof.clone();
                flipped[victim.index(proof.len())].0[bit / 8] ^= 1 << (bit % 8);
                prop_assert_eq!(judge(&flipped, at, leaf), (false, false));
                prop_assert_eq!(judge(&proof[1..], at, leaf), (false, false));
            }
        }

        #[test]
        fn a_consistency_proof_of_either_convinces_the_other(
            n in 1usize..300, old: prop::sample::Index, bit in 0usize..256, victim: prop::sample::Index,
        ) {
            let (entries, old) = (entries(n), old.index(n) as u64 + 1);
            let (stored, size) = (theirs(&entries), n as u64);
            let leaves = Leaves(entries.iter().map(|entry| leaf_hash(entry)).collect());
            let at = |size: u64| {
                let Ok(root) = root(&leaves, TreeSize(size));
                (TreeSize(size), root)
            };
            let Ok(proof) = consistency_proof(&leaves, TreeSize(old), TreeSize(size));
            prop_assert_eq!(&proof, &ours(&prove_tree(size, old, &stored).unwrap()));

            let judge = |proof: &[Hash], before: (TreeSize, Hash)| {
                let (new, (old, root)) = (at(size), before);
                let hashes = (tlog_tiles::Hash(new.1.0), tlog_tiles::Hash(root.0));
                let theirs = check_tree(&other(proof), size, hashes.0, old.0, hashes.1).is_ok();
                (verify_consistency(proof, before, new).is_ok(), theirs)
            };
            prop_assert_eq!(judge(&proof, at(old)), (true, true));

            let mut rewritten = at(old);
            rewritten.1.0[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(judge(&proof, rewritten), (false, false));
            let mut longer = proof.clone();
            longer.push(at(old).1);
            prop_assert_eq!(judge(&longer, at(old)), (false, false));
            if !proof.is_empty() {
                let mut flipped = proof.clone();
                flipped[victim.index(proof.len())].0[bit / 8] ^= 1 << (bit % 8);
                prop_assert_eq!(judge(&flipped, at(old)), (false, false));
                prop_assert_eq!(judge(&proof[1..], at(old)), (false, false));
            }
        }
    }
}

mod checkpoints {
    use super::*;

    proptest! {
        #[test]
        fn both_read_and_write_the_same_checkpoint(
            origin in "[a-z./]{1,20}", size: u64, hash: [u8; 32], extensions in "([a-z ]{1,9}\n){0,3}",
        ) {
            let theirs =
                tlog_tiles::Checkpoint::new(&origin, size, tlog_tiles::Hash(hash), &extensions)
                    .unwrap();
            let mut ours = Checkpoint::new(origin.parse().unwrap(), TreeSize(size), Hash(hash));
            ours.extensions = extensions.lines().map(str::to_owned).collect();
            prop_assert_eq!(ours.text().into_bytes(), theirs.to_bytes());
            prop_assert_eq!(Checkpoint::parse(&ours.text()).unwrap(), ours);
        }

        #[test]
        fn what_we_read_as_a_checkpoint_they_read_the_same_way(
            text in "(a|l\\.example/x|\n|0|1|20|\\+|CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=){0,9}",
        ) {
            if let Ok(ours) = Checkpoint::parse(&text) {
                // Their strict reader wants a note's blank line behind the text.
                let mut note = std::io::Cursor::new(format!("{text}\n"));
                let theirs = tlog_tiles::Checkpoint::from_reader(&mut note, false).unwrap();
                prop_assert_eq!(theirs.origin(), ours.origin.as_str());
                prop_assert_eq!(theirs.size(), ours.size.0);
                prop_assert_eq!(theirs.hash().0, ours.root.0);
                prop_assert_eq!(theirs.to_bytes(), text.as_bytes());
            }
        }
    }
}

/// Examples that stand in the texts of the specifications.
mod c2sp {
    use super::*;

    const NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const COSIGNED: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\u{2014} witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";

    #[test]
    fn the_note_of_signed_note_md_holds_for_both() {
        let note = SignedNote::parse(NOTE.as_bytes()).unwrap();
        let key: VerifierKey = VKEY.parse().unwrap();
        assert_eq!(note.verify([&key]).unwrap().len(), 1);
        let theirs = StandardVerifier::new(VKEY).unwrap();
        let list = VerifierList::new(vec![Box::new(theirs)]);
        assert!(Note::from_bytes(NOTE.as_bytes()).unwrap().verify(&list).is_ok());
    }

    #[test]
    fn the_cosigned_checkpoint_of_tlog_cosignature_md_is_read_with_its_time() {
        let note = SignedNote::parse(COSIGNED.as_bytes()).unwrap();
        assert_eq!(note.to_string(), COSIGNED);
        let checkpoint = Checkpoint::parse(note.text()).unwrap();
        assert_eq!(checkpoint.size, TreeSize(20_852_163));
        assert_eq!(note.signatures()[0].bytes.len(), 64);
        let witness = &note.signatures()[1];
        assert_eq!(witness.name.as_str(), "witness.example.com/w1");
        let cosignature = Cosignature::from_bytes(&witness.bytes).unwrap();
        assert_eq!(cosignature.time, UnixSeconds(1_679_315_147), "as its message says");
    }

    /// The example elides its signatures and its `extra` line is cut short, so that it is no
    /// base64: both are made whole here, all else is as it stands there.
    #[test]
    fn the_proof_of_tlog_proof_md_is_read_and_written_back() {
        let text = "c2sp.org/tlog-proof@v1\nextra YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6\nindex 73894\n\
            gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=\n\
            B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=\n\
            EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=\n\
            RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=\n\
            AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=\n\n\
            example.com/fancylog\n109482\nsFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=\n\n\
            \u{2014} example.com/fancylog hI2DJwAA\n\u{2014} witness1.example mJirIkAA\n";
        let proof = TlogProof::parse(text.as_bytes()).unwrap();
        assert_eq!(proof.extra.as_deref(), Some(&b"age-v1.2.1-darwin-arm64.tar.gz"[..]));
        assert_eq!((proof.index, proof.inclusion.len()), (EntryIndex(73_894), 5));
        assert_eq!(proof.checkpoint.signatures().len(), 2);
        assert_eq!(proof.to_string(), text);
        let anybody = Policy::parse(b"quorum none\n").unwrap();
        assert!(proof.verify(b"", &anybody).is_err(), "its five hashes are too few for its size");
    }

    /// `2 X1 X2 X3` and `any Y1 Y2 Y3`, joined by `all`.
    #[test]
    fn the_policy_of_tlog_policy_md_wants_two_of_one_company_and_one_of_the_other() {
        let signer = |name: &str, kind, seed| {
            NoteSigner::new(name.parse().unwrap(), kind, &Zeroizing::new([seed; 32]))
        };
        let log = signer("example.com/log", SignatureType::Ed25519, 1);
        let witnesses: Vec<NoteSigner> = (2..8)
            .map(|n| signer(&format!("w{n}.example"), SignatureType::CosignatureV1, n))
            .collect();
        let line = |name, at: usize| format!("witness {name} {}\n", witnesses[at].vkey());
        let text = [
            format!("log {}\n\n", log.vkey()),
            line("X1", 0) + &line("X2", 1) + &line("X3", 2),
            "group X-witnesses 2 X1 X2 X3\n\n".into(),
            line("Y1", 3) + &line("Y2", 4) + &line("Y3", 5),
            "group Y-witnesses any Y1 Y2 Y3\n\ngroup X-and-Y all X-witnesses Y-witnesses\n".into(),
            "quorum X-and-Y\n".into(),
        ]
        .concat();
        let policy = Policy::parse(text.as_bytes()).unwrap();
        let text = Checkpoint::new("example.com/log".parse().unwrap(), TreeSize(1), Hash([1; 32]));
        for chosen in 0u32..64 {
            let mut note = SignedNote::new(text.text());
            note.put(log.sign(&text.text(), UnixSeconds(9)));
            let cosigned = |at: &usize| chosen >> at & 1 == 1;
            for at in (0..6).filter(cosigned) {
                note.put(witnesses[at].sign(&text.text(), UnixSeconds(9)));
            }
            let (x, y) = ((chosen & 7).count_ones(), (chosen >> 3).count_ones());
            match policy.verify(&note) {
                Ok(_) => assert!(x >= 2 && y >= 1, "{chosen:b}"),
                Err(error) => {
                    assert!(x < 2 || y < 1, "{chosen:b}");
                    assert!(matches!(error, TrustError::Quorum { .. }));
                }
            }
        }
    }
}
