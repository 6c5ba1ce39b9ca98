//! The store against a set of numbers.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Commit(BTreeSet<u32>),
    Finish,
    Clear(BTreeSet<u32>),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = || prop::collection::btree_set(0..PIECES, 0..12);
    let step = prop_oneof![
        6 => some().prop_map(Step::Commit),
        1 => Just(Step::Finish),
        4 => some().prop_map(Step::Clear),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn durable_is_what_was_committed_less_what_was_cleared(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        block_on(async {
            let mut model = BTreeSet::new();
            let (mut store, _) = open(folder.path()).await;
            load(&store).await;
            for step in steps {
                match step {
                    Step::Commit(some) => {
                        model.extend(some.iter().copied());
                        store.commit(IH, pieces(some)).await.unwrap();
                    }
                    Step::Finish => {
                        model.extend(0..PIECES);
                        let all = Commit { finished: true, ..pieces(0..PIECES) };
                        store.commit(IH, all).await.unwrap();
                    }
                    Step::Clear(some) => {
                        model.retain(|piece| !some.contains(piece));
                        store.clear(IH, some.into_iter().collect()).await.unwrap();
                    }
                    Step::Restart => {
                        store.close().await.unwrap();
                        store = open(folder.path()).await.0;
                    }
                }
                let found: BTreeSet<u32> = durable(&store).await.into_iter().collect();
                prop_assert_eq!(&found, &model);
            }
            Ok(())
        })?;
    }
}
