//! Many machines at once: they wait for sockets and threads more than for a processor.

use std::fmt::Debug;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::promise::Broken;
use crate::shares::Shares;

/// Machines that live at once.
const AT_ONCE: usize = 6;

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// Lives all `lots`, several at once, each beside a seeder; tells what was broken, and gives it.
pub(crate) fn live_all<L: Debug + Sync>(
    lots: &[L],
    live: impl AsyncFn(&Shares, &L) -> Result<(), Broken> + Sync,
) -> Vec<Broken> {
    let (next, broken) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                block_on(async {
                    let shares = Shares::new().await;
                    while let Some(lot) = lots.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(wrong) = live(&shares, lot).await {
                            broken.lock().unwrap().push(format!("{lot:?}: {wrong}"));
                        }
                    }
                    shares.close().await;
                });
            });
        }
    });
    broken.into_inner().unwrap()
}
