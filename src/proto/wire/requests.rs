//! Our requests at one peer: the ranges granted to the connection and what became of each of their blocks.
//!
//! Guarantees that every granted block comes back exactly once, in a [`Event::Run`] or a [`Event::Returned`]. Blocks are
//! requested in the order of the grants. A lost block is returned at once, so that another peer can be asked; received
//! ones wait until nothing of their grant is open. A grant's buffer is found when its first block comes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::base::limits::{REQUEST_OVERDUE, RUN_LEN_MAX};
use crate::base::{BLOCK_LEN, BlockRange, Geometry, PieceIndex};

use super::event::Event;

/// What became of a block of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    /// Not requested yet.
    Waiting,
    /// Requested.
    Asked,
    /// In the grant's buffer.
    Received,
    /// Already returned.
    Lost,
}

impl Block {
    fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Asked)
    }
}

/// A granted range of which at least one block was requested.
#[derive(Debug)]
struct Grant {
    range: BlockRange,
    blocks: Box<[Block]>,
    /// Blocks before this one were requested, or lost before that.
    next: usize,
    /// Blocks that are neither received nor lost.
    open: u32,
    /// When the last of its requests was made.
    asked_at: Instant,
    /// Whether a block of a later grant has come.
    overtaken: bool,
    /// The range's bytes as far as the last block that came.
    data: Vec<u8>,
}

/// What a block that came turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// One of ours; how long it took, if it was the one that was timed.
    Wanted(Option<Duration>),
    /// It was asked for once, but is not wanted any more.
    Late,
    /// Nobody asked for it.
    Unrequested,
}

/// The grants of one connection.
#[derive(Debug)]
pub(super) struct Requests {
    geometry: Geometry,
    /// Grants of which something was requested; only the last can have blocks waiting.
    active: VecDeque<Grant>,
    /// Grants of which nothing was requested yet.
    queued: VecDeque<BlockRange>,
    /// Blocks granted that have not come back.
    open: u32,
    /// Blocks requested that have not come back.
    asked: u32,
    /// Requests that were given up and may be answered all the same.
    late: u32,
    /// The request whose travel is being timed.
    timed: Option<(BlockRange, Instant)>,
}

impl Requests {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            active: VecDeque::new(),
            queued: VecDeque::new(),
            open: 0,
            asked: 0,
            late: 0,
            timed: None,
        }
    }

    /// Bytes of the first grant without a buffer, among those that the next `bytes` bytes are for if the peer answers in order.
    pub(super) fn buffer_wanted(&self, bytes: usize) -> Option<usize> {
        let mut before = 0;
        let due = self.active.iter().take_while(|grant| {
            let due = before < bytes;
            before += grant.asked().count() * BLOCK_LEN as usize;
            due
        });
        let bare = { due }.find(|grant| grant.is_bare());
        bare.map(|grant| grant.range.len() as usize)
    }

    /// Gives the grant for which a buffer [is wanted](Self::buffer_wanted) one. Its content is lost.
    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if let Some(grant) = self.active.iter_mut().find(|grant| grant.is_bare()) {
            buffer.clear();
            buffer.reserve_exact(grant.range.len() as usize);
            grant.data = buffer;
        }
    }

    /// Answers could not be heard for `time`, which is not held against the requests.
    pub(super) fn was_deaf(&mut self, time: Duration) {
        for grant in &mut self.active {
            grant.asked_at += time;
        }
    }

    /// Blocks granted that have not come back.
    pub(super) fn open(&self) -> u32 {
        self.open
    }

    /// Blocks requested that have not come back.
    pub(super) fn asked(&self) -> u32 {
        self.asked
    }

    /// Whether `range` can be granted: whole blocks, and few enough for one buffer.
    pub(super) fn accepts(&self, range: BlockRange) -> bool {
        self.geometry.is_aligned(range) && range.len() <= RUN_LEN_MAX
    }

    /// Adds a grant that [`Requests::accepts`].
    pub(super) fn push(&mut self, range: BlockRange) {
        self.open += count(range);
        self.queued.push_back(range);
    }

    /// The next block to request, which counts as requested from now on.
    pub(super) fn next(&mut self, now: Instant) -> Option<BlockRange> {
        let begun = self.active.back_mut();
        let index = match begun.and_then(|grant| grant.ask_next(now)) {
            Some(index) => index,
            None => {
                let mut grant = Grant::new(now, self.queued.pop_front()?);
                let index = grant.ask_next(now)?;
                self.active.push_back(grant);
                index
            }
        };
        let block = self.active.back()?.block(&self.geometry, index);
        self.asked += 1;
        self.timed.get_or_insert((block, now));
        Some(block)
    }

    /// Takes in a block that came.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        block: BlockRange,
        data: &[u8],
        events: &mut VecDeque<Event>,
    ) -> Arrival {
        let Some((at, index)) = self.find(block) else {
            return self.unwanted();
        };
        let grant = &mut self.active[at];
        if grant.blocks[index] == Block::Asked {
            self.asked -= 1;
        } else {
            self.late -= 1;
        }
        self.open -= 1;
        if grant.is_bare() {
            grant.data.reserve_exact(grant.range.len() as usize);
        }
        grant.store(index, data);
        let whole = grant.open == 0;
        if at > 0 {
            self.active[0].overtaken = true;
        }
        if whole {
            self.finish(at, events);
        }
        let timed = self.timed.take_if(|(timed, _)| *timed == block);
        Arrival::Wanted(timed.map(|(_, since)| now.saturating_duration_since(since)))
    }

    /// A block came that fits no open one.
    pub(super) fn unwanted(&mut self) -> Arrival {
        if self.late == 0 {
            return Arrival::Unrequested;
        }
        self.late -= 1;
        Arrival::Late
    }

    /// The peer will not answer the request of `block`. False if it was not open; then the answer settles one given up earlier.
    pub(super) fn reject(&mut self, block: BlockRange, events: &mut VecDeque<Event>) -> bool {
        match self.find_asked(block) {
            Some((at, index)) => {
                self.lose(at, events, |i, _| i == index);
                true
            }
            None => {
                self.late = self.late.saturating_sub(1);
                false
            }
        }
    }

    /// Gives up what is open of `range`; `cancel` hears of each block that was requested.
    pub(super) fn revoke(
        &mut self,
        range: BlockRange,
        events: &mut VecDeque<Event>,
        mut cancel: impl FnMut(BlockRange),
    ) {
        let geometry = self.geometry;
        for at in (0..self.active.len()).rev() {
            if self.active[at].range.piece() != range.piece() {
                continue;
            }
            let first = self.active[at].range.blocks().start;
            let touched = |index: usize| range.blocks().contains(&(first + index as u32));
            let grant = &self.active[at];
            for (index, _) in grant.asked().filter(|&(index, _)| touched(index)) {
                cancel(grant.block(&geometry, index));
                self.late += 1;
            }
            self.lose(at, events, |index, _| touched(index));
        }
        self.unqueue(events, |queued| overlap(&geometry, queued, range));
    }

    /// When [`Requests::overdue`] has something to give up.
    pub(super) fn overdue_at(&self) -> Option<Instant> {
        let first = self.active.front().filter(|grant| grant.overtaken)?;
        Some(first.asked_at + REQUEST_OVERDUE)
    }

    /// The oldest grant, if later ones were answered and it should have been: it is to be revoked.
    pub(super) fn overdue(&self, now: Instant) -> Option<BlockRange> {
        let due = self.overdue_at().is_some_and(|at| now >= at);
        self.active.front().filter(|_| due).map(|grant| grant.range)
    }

    /// Returns everything open, as if it was never granted. Requests made may still be answered.
    pub(super) fn return_all(&mut self, events: &mut VecDeque<Event>) {
        self.late += self.asked;
        while let Some(last) = self.active.len().checked_sub(1) {
            self.lose(last, events, |_, _| true);
        }
        self.unqueue(events, Some);
    }

    /// Returns what was not requested yet, but for the pieces that `keep` names.
    pub(super) fn return_waiting(
        &mut self,
        events: &mut VecDeque<Event>,
        keep: impl Fn(PieceIndex) -> bool,
    ) {
        if let Some(last) = self.active.len().checked_sub(1)
            && !keep(self.active[last].range.piece())
        {
            self.lose(last, events, |_, block| block == Block::Waiting);
        }
        self.unqueue(events, |queued| (!keep(queued.piece())).then_some(queued));
    }

    /// The grant and the index in it of `block`, if it is open and may come.
    fn find(&self, block: BlockRange) -> Option<(usize, usize)> {
        let late = self.late > 0;
        self.find_asked(block)
            .or_else(|| late.then(|| self.find_in(block, Block::Waiting))?)
    }

    fn find_asked(&self, block: BlockRange) -> Option<(usize, usize)> {
        self.find_in(block, Block::Asked)
    }

    fn find_in(&self, block: BlockRange, state: Block) -> Option<(usize, usize)> {
        if count(block) != 1 || !self.geometry.is_aligned(block) {
            return None;
        }
        let number = block.blocks().start;
        self.active.iter().enumerate().find_map(|(at, grant)| {
            let index = number.checked_sub(grant.range.blocks().start)? as usize;
            let same = grant.range.piece() == block.piece();
            (same && grant.blocks.get(index) == Some(&state)).then_some((at, index))
        })
    }

    /// Returns the open blocks of a grant that `which` picks, and ends the grant if none is left.
    fn lose(
        &mut self,
        at: usize,
        events: &mut VecDeque<Event>,
        which: impl Fn(usize, Block) -> bool,
    ) {
        let grant = &mut self.active[at];
        let picked = |index: usize, block: Block| block.is_open() && which(index, block);
        for extent in grant.extents(&self.geometry, &picked) {
            events.push_back(Event::Returned(extent));
        }
        for (index, block) in grant.blocks.iter_mut().enumerate() {
            if picked(index, *block) {
                self.asked -= u32::from(*block == Block::Asked);
                self.open -= 1;
                grant.open -= 1;
                *block = Block::Lost;
                self.timed = None;
            }
        }
        if grant.open == 0 {
            self.finish(at, events);
        }
    }

    /// Hands over what came of a grant that has nothing open.
    fn finish(&mut self, at: usize, events: &mut VecDeque<Event>) {
        let Some(grant) = self.active.remove(at) else {
            return;
        };
        let received = |_: usize, block: Block| block == Block::Received;
        if grant.blocks.iter().all(|&block| received(0, block)) {
            let Grant { range, data, .. } = grant;
            events.push_back(Event::Run { range, data });
            return;
        }
        for range in grant.extents(&self.geometry, &received) {
            let from = (range.begin() - grant.range.begin()) as usize;
            let data = grant.data[from..from + range.len() as usize].to_vec();
            events.push_back(Event::Run { range, data });
        }
    }

    /// Returns the part of each queued grant that `part` names; what is left of it stays in its place.
    fn unqueue(
        &mut self,
        events: &mut VecDeque<Event>,
        part: impl Fn(BlockRange) -> Option<BlockRange>,
    ) {
        let geometry = self.geometry;
        for range in std::mem::take(&mut self.queued) {
            let Some(lost) = part(range) else {
                self.queued.push_back(range);
                continue;
            };
            self.open -= count(lost);
            events.push_back(Event::Returned(lost));
            let (all, gone) = (range.blocks(), lost.blocks());
            let kept = [all.start..gone.start, gone.end..all.end];
            let kept = kept.map(|blocks| geometry.run(range.piece(), blocks));
            self.queued.extend(kept.into_iter().flatten());
        }
    }
}

impl Grant {
    fn new(now: Instant, range: BlockRange) -> Self {
        Self {
            range,
            blocks: vec![Block::Waiting; count(range) as usize].into(),
            next: 0,
            open: count(range),
            asked_at: now,
            overtaken: false,
            data: Vec::new(),
        }
    }

    /// Marks the first waiting block as asked.
    fn ask_next(&mut self, now: Instant) -> Option<usize> {
        let rest = self.blocks.get(self.next..)?;
        let waiting = rest.iter().position(|&block| block == Block::Waiting);
        let Some(skipped) = waiting else {
            self.next = self.blocks.len();
            return None;
        };
        let index = self.next + skipped;
        self.blocks[index] = Block::Asked;
        self.next = index + 1;
        self.asked_at = now;
        Some(index)
    }

    /// Whether no memory was found for the bytes yet.
    fn is_bare(&self) -> bool {
        self.data.capacity() == 0
    }

    fn asked(&self) -> impl Iterator<Item = (usize, Block)> + '_ {
        let all = self.blocks.iter().copied().enumerate();
        all.filter(|&(_, block)| block == Block::Asked)
    }

    fn block(&self, geometry: &Geometry, index: usize) -> BlockRange {
        let number = self.range.blocks().start + index as u32;
        let block = geometry.run(self.range.piece(), number..number + 1);
        block.expect("a grant has only blocks that lie in its range")
    }

    /// Copies a block into its place. Blocks that come in order are appended, without zeroing their place first.
    fn store(&mut self, index: usize, data: &[u8]) {
        let at = index * BLOCK_LEN as usize;
        if self.data.len() <= at {
            self.data.resize(at, 0);
            self.data.extend_from_slice(data);
        } else {
            self.data[at..at + data.len()].copy_from_slice(data);
        }
        self.blocks[index] = Block::Received;
        self.open -= 1;
    }

    /// The longest runs of neighbouring blocks that `which` picks.
    fn extents(
        &self,
        geometry: &Geometry,
        which: &impl Fn(usize, Block) -> bool,
    ) -> Vec<BlockRange> {
        let first = self.range.blocks().start;
        let mut extents = Vec::new();
        let mut begun = None;
        for index in 0..=self.blocks.len() {
            let block = self.blocks.get(index);
            if block.is_some_and(|&block| which(index, block)) {
                begun.get_or_insert(index);
            } else if let Some(begin) = begun.take() {
                let blocks = first + begin as u32..first + index as u32;
                extents.extend(geometry.run(self.range.piece(), blocks));
            }
        }
        extents
    }
}

fn count(range: BlockRange) -> u32 {
    range.blocks().len() as u32
}

/// The blocks of `a` that `b` touches.
fn overlap(geometry: &Geometry, a: BlockRange, b: BlockRange) -> Option<BlockRange> {
    let (x, y) = (a.blocks(), b.blocks());
    let same = a.piece() == b.piece();
    let blocks = x.start.max(y.start)..x.end.min(y.end);
    same.then(|| geometry.run(a.piece(), blocks))?
}
