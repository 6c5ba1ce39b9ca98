//! What happens on a link: requests in a pipeline, refusals, blocks, and runs of them handed over.

use super::*;

impl World {
    pub(super) fn link(&mut self, sides: [(usize, PeerKey); 2]) {
        let at = self.links.len();
        let latency = Duration::from_millis(10 + self.dice.below(90));
        for (end, (node, key)) in sides.into_iter().enumerate() {
            self.nodes[node].links.insert(key, (at, end));
        }
        let ends = sides.map(|(node, key)| End {
            node,
            key,
            runs: Vec::new(),
            asked: 0,
            choked: true,
            raised: false,
            choking: true,
            queue: VecDeque::new(),
        });
        self.links.push(Link {
            ends,
            latency,
            open: true,
        });
        for (end, (node, _)) in sides.into_iter().enumerate() {
            let pieces = self.nodes[node].swarm.verified().clone();
            self.send(at, end, Message::Pieces(pieces));
            self.send(at, end, Message::Port(6881));
        }
    }

    pub(super) fn close(&mut self, link: usize, clean: bool) {
        if !std::mem::replace(&mut self.links[link].open, false) {
            return;
        }
        for end in 0..2 {
            let (n, key) = (
                self.links[link].ends[end].node,
                self.links[link].ends[end].key,
            );
            self.nodes[n].swarm.on_closing(key);
            for run in &mut self.links[link].ends[end].runs {
                for slot in &mut run.slots {
                    if matches!(slot, Slot::Want | Slot::Asked) {
                        *slot = Slot::Lost;
                    }
                }
            }
            self.finish_runs(link, end);
            self.nodes[n].links.remove(&key);
            self.nodes[n].swarm.on_disconnected(self.now, key, clean);
            self.drain(n);
        }
    }

    pub(super) fn deliver(&mut self, link: usize, at: usize, message: Message) {
        let now = self.now;
        let end = &mut self.links[link].ends[at];
        let (n, key) = (end.node, end.key);
        match message {
            Message::Pieces(bits) => self.nodes[n].swarm.on_pieces(now, key, bits),
            Message::Have(piece) => self.nodes[n].swarm.on_have(now, key, piece),
            Message::Port(port) => self.nodes[n].swarm.on_listen_port(now, key, port),
            Message::Interest(true) => self.nodes[n].swarm.on_interested(now, key),
            Message::Interest(false) => self.nodes[n].swarm.on_not_interested(now, key),
            Message::Choke(true) => {
                end.choked = true;
                for slot in end.runs.iter_mut().flat_map(|run| &mut run.slots) {
                    if *slot == Slot::Want {
                        *slot = Slot::Lost;
                    }
                }
                self.nodes[n].swarm.on_choked(now, key);
                self.finish_runs(link, at);
            }
            Message::Choke(false) => {
                (end.choked, end.raised) = (false, false);
                self.nodes[n].swarm.on_unchoked(now, key);
            }
            Message::Request(piece, block) => {
                if end.choking {
                    self.send(link, at, Message::Reject(piece, block));
                } else {
                    end.queue.push_back((piece, block));
                    self.upload(n);
                }
            }
            Message::Cancel(piece, block) => end.queue.retain(|&asked| asked != (piece, block)),
            Message::Reject(piece, block) => self.resolve(link, at, piece, block, Slot::Lost),
            Message::Block(piece, block, version) => {
                self.nodes[n].bad_blocks += u64::from(version != GOOD);
                self.resolve(link, at, piece, block, Slot::Got(version));
            }
        }
        self.pump(link, at);
        self.drain(n);
    }

    /// A block came or was refused.
    fn resolve(&mut self, link: usize, at: usize, piece: PieceIndex, block: u32, to: Slot) {
        let end = &mut self.links[link].ends[at];
        let run = end.runs.iter_mut().find(|run| {
            let first = run.range.blocks().start;
            run.range.piece() == piece
                && run.range.blocks().contains(&block)
                && run.slots[(block - first) as usize] == Slot::Asked
        });
        if let Some(run) = run {
            let first = run.range.blocks().start;
            run.slots[(block - first) as usize] = to;
            end.asked -= 1;
            self.finish_runs(link, at);
        } else if let Slot::Got(_) = to {
            let (n, key) = (end.node, end.key);
            self.nodes[n].swarm.on_wasted(self.now, key, BLOCK_LEN);
        }
    }

    /// Hands over the runs of which nothing more will come.
    fn finish_runs(&mut self, link: usize, at: usize) {
        let end = &mut self.links[link].ends[at];
        let (n, key) = (end.node, end.key);
        let is_done = |run: &Run| {
            !run.slots
                .iter()
                .any(|s| matches!(s, Slot::Want | Slot::Asked))
        };
        let (done, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut end.runs).into_iter().partition(is_done);
        end.runs = rest;
        end.asked = end
            .runs
            .iter()
            .flat_map(|run| &run.slots)
            .filter(|&&s| s == Slot::Asked)
            .count() as u32;
        for run in done {
            let mut block = run.range.blocks().start;
            for part in run
                .slots
                .chunk_by(|a, b| (*a == Slot::Lost) == (*b == Slot::Lost))
            {
                let blocks = block..block + part.len() as u32;
                block = blocks.end;
                let range = self.geometry.run(run.range.piece(), blocks).unwrap();
                if part[0] == Slot::Lost {
                    self.nodes[n].swarm.on_returned(self.now, key, range);
                } else {
                    let versions = part.iter().map(|slot| match slot {
                        Slot::Got(version) => *version,
                        _ => unreachable!("parts are cut where blocks were lost"),
                    });
                    self.received(n, key, range, &versions.collect::<Vec<_>>());
                }
            }
        }
    }

    fn received(&mut self, n: usize, key: PeerKey, range: BlockRange, versions: &[u8]) {
        let now = self.now;
        match self.nodes[n].swarm.on_run(now, key, range) {
            Verdict::Discard => {}
            Verdict::Check { .. } => {
                let life = self.nodes[n].life;
                let event = Event::Checked(n, range.piece(), life, versions.to_vec());
                self.push(now + Duration::from_millis(2), event);
            }
            Verdict::Write(parts) => {
                for part in parts {
                    for block in part.blocks() {
                        let version = versions[(block - range.blocks().start) as usize];
                        self.nodes[n].store.insert((range.piece(), block), version);
                    }
                    self.nodes[n].swarm.on_written(now, part);
                }
            }
        }
    }

    /// Requests as much as the pipeline takes, and says so when there is room for more.
    pub(super) fn pump(&mut self, link: usize, at: usize) {
        let end = &mut self.links[link].ends[at];
        let mut requests = Vec::new();
        let mut wanted = false;
        for run in &mut end.runs {
            let first = run.range.blocks().start;
            for (block, slot) in (first..).zip(&mut run.slots) {
                if *slot != Slot::Want {
                    continue;
                }
                if end.asked < PIPELINE {
                    *slot = Slot::Asked;
                    end.asked += 1;
                    requests.push(Message::Request(run.range.piece(), block));
                } else {
                    wanted = true;
                }
            }
        }
        let room = PIPELINE - end.asked.min(PIPELINE);
        let hungry = !wanted && room > 0 && !end.choked && !end.raised;
        let (n, key) = (end.node, end.key);
        end.raised |= hungry;
        for request in requests {
            self.send(link, at, request);
        }
        if hungry && self.links[link].open {
            self.nodes[n].swarm.on_hungry(self.now, key, room);
            self.drain(n);
        }
    }

    /// Starts to send the next block if the node's upload is free; links take turns.
    fn upload(&mut self, n: usize) {
        let node = &self.nodes[n];
        if node.busy || !node.online {
            return;
        }
        let after = node.links.iter().filter(|(key, _)| Some(**key) > node.turn);
        let order = after.chain(node.links.iter());
        let next = order
            .map(|(&key, &at)| (key, at))
            .find(|&(_, (link, end))| !self.links[link].ends[end].queue.is_empty());
        let Some((key, (link, end))) = next else {
            return;
        };
        let Some((piece, block)) = self.links[link].ends[end].queue.pop_front() else {
            return;
        };
        let took = Duration::from_secs_f64(f64::from(BLOCK_LEN) / self.nodes[n].up_rate as f64);
        self.nodes[n].busy = true;
        self.nodes[n].turn = Some(key);
        self.push(self.now + took, Event::Sent(n, link, end, piece, block));
    }

    pub(super) fn sent(
        &mut self,
        n: usize,
        link: usize,
        end: usize,
        piece: PieceIndex,
        block: u32,
    ) {
        let node = &mut self.nodes[n];
        node.busy = false;
        if self.links[link].open {
            node.blocks_sent += 1;
            let lie = node
                .lies
                .is_some_and(|every| node.blocks_sent.is_multiple_of(every));
            let key = self.links[link].ends[end].key;
            node.swarm.on_uploaded(self.now, key, u64::from(BLOCK_LEN));
            let version = if lie { BAD } else { GOOD };
            self.send(link, end, Message::Block(piece, block, version));
        }
        self.upload(n);
    }

    pub(super) fn revoke(&mut self, link: usize, at: usize, range: BlockRange) {
        let end = &mut self.links[link].ends[at];
        let mut cancels = Vec::new();
        for run in end
            .runs
            .iter_mut()
            .filter(|run| run.range.piece() == range.piece())
        {
            let first = run.range.blocks().start;
            for (block, slot) in (first..).zip(&mut run.slots) {
                if range.blocks().contains(&block) && matches!(slot, Slot::Want | Slot::Asked) {
                    if *slot == Slot::Asked {
                        cancels.push(Message::Cancel(range.piece(), block));
                    }
                    *slot = Slot::Lost;
                }
            }
        }
        for cancel in cancels {
            self.send(link, at, cancel);
        }
        self.finish_runs(link, at);
        self.pump(link, at);
    }
}
