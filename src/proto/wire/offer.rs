//! The metadata that we serve to one peer (BEP 9), and how much of it: a peer may fetch it a few times over, and must read
//! what it asked for before it gets more.

use std::sync::Arc;

use crate::base::limits::{METADATA_COPIES_MAX, METADATA_UNREAD_MAX};
use crate::format::metainfo::Info;

use super::metadata::{METADATA_PIECE_LEN, MetadataMessage, metadata_piece_len, metadata_pieces};

/// What one peer may still have of a torrent's metadata.
#[derive(Debug)]
pub(super) struct Offer {
    info: Arc<Info>,
    /// Pieces that are still given away.
    left: u32,
}

impl Offer {
    pub(super) fn new(info: Arc<Info>) -> Self {
        let mut offer = Self { info, left: 0 };
        offer.left = metadata_pieces(offer.size()).saturating_mul(METADATA_COPIES_MAX);
        offer
    }

    /// Bytes of the metadata.
    pub(super) fn size(&self) -> u32 {
        // What was read was bounded by METAINFO_MAX; of what was created that is longer nothing is offered.
        u32::try_from(self.info.raw().len()).unwrap_or(0)
    }

    /// The answer to a request, while `unread` bytes wait for the peer to read them.
    pub(super) fn answer(&mut self, piece: u32, unread: usize) -> MetadataMessage<'_> {
        let size = self.size();
        let len = metadata_piece_len(size, piece);
        match len.filter(|_| self.left > 0 && unread <= METADATA_UNREAD_MAX) {
            Some(len) => {
                self.left -= 1;
                let begin = (piece * METADATA_PIECE_LEN) as usize;
                MetadataMessage::Data {
                    piece,
                    total_size: Some(size),
                    bytes: &self.info.raw()[begin..begin + len as usize],
                }
            }
            None => MetadataMessage::Reject(piece),
        }
    }
}
