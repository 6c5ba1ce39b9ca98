//! A bounded queue that takes no memory before somebody sends: most torrents of a large library have no peer.

use tokio::sync::mpsc;

/// Both ends of a queue; senders are handed out.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    bound: usize,
    ends: Option<(mpsc::Sender<T>, mpsc::Receiver<T>)>,
}

impl<T> Mailbox<T> {
    /// A queue for `bound` things.
    pub(super) fn new(bound: usize) -> Self {
        let ends = None;
        Self { bound, ends }
    }

    /// One more sender.
    pub(super) fn sender(&mut self) -> mpsc::Sender<T> {
        let (sender, _) = self.ends.get_or_insert_with(|| mpsc::channel(self.bound));
        sender.clone()
    }

    /// The next thing; pending for as long as there is none. A call that waits does not notice the first sender: after
    /// [`sender`](Self::sender) it has to be called again.
    pub(super) async fn recv(&mut self) -> T {
        if let Some((_, receiver)) = &mut self.ends
            && let Some(next) = receiver.recv().await
        {
            return next;
        }
        std::future::pending().await
    }

    /// The next thing, if there is one now.
    pub(super) fn try_recv(&mut self) -> Option<T> {
        self.ends.as_mut()?.1.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_comes_in_order_and_nothing_is_kept_before() {
        let mut mailbox = Mailbox::new(2);
        assert!(mailbox.ends.is_none() && mailbox.try_recv().is_none());
        let (one, two) = (mailbox.sender(), mailbox.sender());
        one.send(1).await.unwrap();
        two.send(2).await.unwrap();
        assert!(one.try_send(3).is_err(), "bounded");
        assert_eq!((mailbox.recv().await, mailbox.try_recv()), (1, Some(2)));
        assert_eq!(mailbox.try_recv(), None);
    }
}
