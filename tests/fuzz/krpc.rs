//! The DHT's mainline dialect: any bytes are refused, or are a message that is written as one that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seedbank::base::limits::DATAGRAM_MAX;
use seedbank::proto::dht::krpc::{decode, encode};

fuzz_target!(|datagram: &[u8]| match decode(datagram) {
    Ok(message) => {
        let ours = encode(&message);
        assert!(ours.len() <= DATAGRAM_MAX);
        let read = decode(&ours).expect("what is written is read");
        assert_eq!(encode(&read), ours);
    }
    Err(error) => {
        if let Some(answer) = error.answer() {
            decode(&encode(&answer)).expect("the answer to an error is a message");
        }
    }
});
