//! Re-reading what is shared: rot is told from a change, and the metainfo has the last word.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use seedbank::base::PieceDigest;
use seedbank::disk::{Access, Payload, Scrubbed, WritePath};

use crate::rig::{PIECE, Rig, block_on};

const FILES: &[(&str, u64)] = &[("t/a", 100_000), (".pad/1", 31_072), ("t/b", 70_000)];

/// A payload that was found good and is shared.
async fn shared(rig: &Rig) -> Payload {
    rig.fill();
    let payload = rig
        .open(Access::Read, WritePath::Auto)
        .await
        .unwrap()
        .payload;
    let found = payload.identities().await.unwrap();
    let numbered = found.into_iter().enumerate();
    let known: Vec<_> = numbered
        .filter_map(|(at, found)| Some((at, found?)))
        .collect();
    payload.judge_by(&known);
    payload
}

async fn scrub(rig: &Rig, payload: &Payload, piece: u32, digest: Option<PieceDigest>) -> Scrubbed {
    let piece = rig.layout.geometry().piece(piece).unwrap();
    let scrubbed = payload.scrub(piece, rig.hash(piece), digest).await;
    scrubbed.unwrap()
}

fn digest(rig: &Rig, piece: u32) -> PieceDigest {
    let piece = rig.layout.geometry().piece(piece).unwrap();
    PieceDigest::of(blake3::hash(&rig.data(piece)).as_bytes())
}

/// Flips a bit without a trace in the file's metadata, as a disk does.
fn rot(rig: &Rig, file: usize, offset: u64) {
    let file = File::options()
        .read(true)
        .write(true)
        .open(rig.path(file))
        .unwrap();
    let before = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 8], offset).unwrap();
    file.set_modified(before).unwrap();
}

#[test]
fn what_is_good_is_known_by_its_digest_and_a_wrong_digest_is_corrected() {
    let rig = Rig::new(FILES);
    block_on(async {
        let payload = shared(&rig).await;
        for piece in 0..rig.layout.geometry().pieces() {
            let good = digest(&rig, piece);
            for known in [None, Some(good), Some(PieceDigest([7; 16]))] {
                let scrubbed = scrub(&rig, &payload, piece, known).await;
                assert!(
                    matches!(scrubbed, Scrubbed::Good(found) if found == good),
                    "{piece}: {scrubbed:?}"
                );
            }
        }
    });
}

#[test]
fn a_flipped_bit_that_nobody_wrote_is_rot_in_its_piece_alone() {
    let rig = Rig::new(FILES);
    block_on(async {
        let payload = shared(&rig).await;
        rot(&rig, 0, 40_000);
        for known in [None, Some(digest(&rig, 1))] {
            let scrubbed = scrub(&rig, &payload, 1, known).await;
            assert!(matches!(scrubbed, Scrubbed::Rotten), "{scrubbed:?}");
        }
        for piece in [0, 2, 3] {
            let scrubbed = scrub(&rig, &payload, piece, None).await;
            assert!(matches!(scrubbed, Scrubbed::Good(_)), "{scrubbed:?}");
        }
        // Its digest cannot vouch for it: another piece's is not believed either.
        let scrubbed = scrub(&rig, &payload, 1, Some(digest(&rig, 0))).await;
        assert!(matches!(scrubbed, Scrubbed::Rotten), "{scrubbed:?}");
    });
}

#[test]
fn a_file_that_somebody_touched_or_took_away_did_not_rot() {
    let rig = Rig::new(FILES);
    block_on(async {
        let payload = shared(&rig).await;
        let last = rig.layout.geometry().pieces() - 1;
        let file = File::options().write(true).open(rig.path(2)).unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(9);
        file.set_modified(later).unwrap();
        for known in [None, Some(digest(&rig, last))] {
            let scrubbed = scrub(&rig, &payload, last, known).await;
            assert!(matches!(scrubbed, Scrubbed::Changed(_)), "{scrubbed:?}");
        }
        let other = scrub(&rig, &payload, 0, None).await;
        assert!(matches!(other, Scrubbed::Good(_)), "{other:?}");
        fs::write(rig.path(0), &rig.content(0)[..PIECE as usize]).unwrap();
        for gone in [false, true] {
            if gone {
                fs::remove_file(rig.path(0)).unwrap();
            }
            let scrubbed = scrub(&rig, &payload, 1, None).await;
            assert!(matches!(scrubbed, Scrubbed::Changed(_)), "{scrubbed:?}");
        }
    });
}
