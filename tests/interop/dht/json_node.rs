//! A node that speaks the JSON dialect and nothing else: one JSON object a datagram, five kinds of messages. It answers what it is
//! asked, knows nobody and keeps nothing.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::InfoHash;
use crate::common::payload::Random;
use crate::common::seedbank::LOOPBACK;
use crate::common::wait;

/// The longest datagram of the dialect.
const DATAGRAM_MAX: usize = 1400;
/// How long to wait for an answer before the question is sent again.
const PATIENCE: Duration = Duration::from_millis(500);

/// A node on a free loopback port, until dropped.
pub(super) struct JsonNode {
    shared: Arc<Shared>,
    transactions: Mutex<Random>,
}

struct Shared {
    socket: UdpSocket,
    id: String,
    stop: AtomicBool,
    /// Answers that came, by transaction.
    answers: Mutex<HashMap<String, Value>>,
}

impl JsonNode {
    /// A node whose id `seed` decides.
    pub(super) fn start(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut id = [0; 20];
        random.fill(&mut id);
        let socket = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        let tick = Some(Duration::from_millis(50));
        socket.set_read_timeout(tick).unwrap();
        let shared = Arc::new(Shared {
            socket,
            id: HEXLOWER.encode(&id),
            stop: AtomicBool::new(false),
            answers: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || serving.serve());
        Self {
            shared,
            transactions: Mutex::new(random),
        }
    }

    /// Its id, in hexadecimal digits.
    pub(super) fn id(&self) -> &str {
        &self.shared.id
    }

    /// Where it takes datagrams.
    pub(super) fn addr(&self) -> SocketAddr {
        self.shared.socket.local_addr().unwrap()
    }

    /// `ping`; the answer.
    pub(super) fn ping(&self, to: SocketAddr) -> Value {
        self.ask(to, json!({"type": "ping"}))
    }

    /// `findPeers`; the answer.
    pub(super) fn find_peers(&self, to: SocketAddr, info_hash: InfoHash) -> Value {
        let info_hash = HEXLOWER.encode(&info_hash);
        self.ask(to, json!({"type": "findPeers", "info_hash": info_hash}))
    }

    /// `announce`; the answer.
    pub(super) fn announce(
        &self,
        to: SocketAddr,
        info_hash: InfoHash,
        port: u16,
        token: &str,
    ) -> Value {
        let info_hash = HEXLOWER.encode(&info_hash);
        let message =
            json!({"type": "announce", "info_hash": info_hash, "port": port, "token": token});
        self.ask(to, message)
    }

    fn ask(&self, to: SocketAddr, mut message: Value) -> Value {
        let transaction = format!("{:016x}", self.transactions.lock().unwrap().next());
        message["t"] = json!(transaction);
        for _ in 0..20 {
            self.shared.send(to, message.clone());
            let answer = wait::within(PATIENCE, || {
                self.shared.answers.lock().unwrap().remove(&transaction)
            });
            if let Some(answer) = answer {
                assert_eq!(answer["id"].as_str().map(str::len), Some(40), "{answer}");
                return answer;
            }
        }
        panic!("{to} does not answer {message}");
    }
}

impl Drop for JsonNode {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn serve(&self) {
        let mut datagram = [0; 65536];
        while !self.stop.load(Ordering::SeqCst) {
            let Ok((len, from)) = self.socket.recv_from(&mut datagram) else {
                continue;
            };
            // Bootstrap addresses are tried in both dialects; the other one is not JSON.
            let Ok(message) = serde_json::from_slice::<Value>(&datagram[..len]) else {
                continue;
            };
            assert!(len <= DATAGRAM_MAX, "{len} bytes: {message}");
            if let Some(answer) = self.answer(from, &message) {
                self.send(from, answer);
            }
        }
    }

    fn answer(&self, from: SocketAddr, message: &Value) -> Option<Value> {
        let t = message["t"].as_str()?;
        match message["type"].as_str()? {
            "ping" | "announce" => Some(json!({"type": "pong", "t": t, "addr": from.to_string()})),
            "findPeers" => Some(json!({
                "type": "peers", "t": t, "info_hash": message["info_hash"], "token": "00",
                "peers": [], "nodes": [],
            })),
            "pong" | "peers" => {
                let mut answers = self.answers.lock().unwrap();
                answers.insert(t.to_owned(), message.clone());
                None
            }
            _ => None,
        }
    }

    fn send(&self, to: SocketAddr, mut message: Value) {
        message["id"] = json!(self.id);
        let _ = self.socket.send_to(message.to_string().as_bytes(), to);
    }
}
