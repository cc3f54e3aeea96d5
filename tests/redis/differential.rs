//! The same commands to a node and to a real redis-server: the same bytes come back.
//!
//! What cannot be compared so, and is held by a property instead (in `properties.rs`): TTL and PTTL, and EXPIRETIME and
//! PEXPIRETIME after an expiry that counts from now, for the clocks are two; DBSIZE while records expire, for either
//! counts some that have; SCAN, whose order and cursors are a server's own; INFO, CLIENT and HELLO's id, which tell of
//! the server; COMMAND as a whole, for Redis has more of them; and CONFIG GET beyond the settings that both have.
#![forbid(unsafe_code)]

use crate::raw::{Raw, command};
use crate::server::RedisServer;
use crate::support::for_each_seed;
use crate::words::{Words, random_command};
use crate::{Served, node};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A node and a redis-server, and a client of each.
struct Twins {
    node: Served,
    server: RedisServer,
    ours: Raw,
    theirs: Raw,
}

impl Twins {
    fn start() -> Self {
        let (node, server) = (node(|config| config.threads = 2), RedisServer::start());
        let (ours, theirs) = (node.client(), server.client());
        Self { node, server, ours, theirs }
    }

    fn reconnect(&mut self) {
        (self.ours, self.theirs) = (self.node.client(), self.server.client());
    }

    /// Sends bytes to both.
    fn send(&mut self, bytes: &[u8]) {
        self.ours.send(bytes);
        self.theirs.send(bytes);
    }

    /// Compares so many replies.
    #[track_caller]
    fn compare(&mut self, sent: &[Vec<Vec<u8>>]) {
        for words in sent {
            let (ours, theirs) = (self.ours.reply(), self.theirs.reply());
            assert!(ours == theirs, "to {}\nours   {}\ntheirs {}", shown(words), text(&ours), text(&theirs));
        }
    }
}

fn shown(words: &[Vec<u8>]) -> String {
    words.iter().map(|word| text(word)).collect::<Vec<_>>().join(" ")
}

fn text(bytes: &[u8]) -> String {
    format!("{}{}", bytes[..bytes.len().min(300)].escape_ascii(), if bytes.len() > 300 { "..." } else { "" })
}

#[test]
fn random_commands_get_the_same_bytes_as_from_redis() {
    let mut twins = Twins::start();
    for_each_seed(12, |seed| {
        println!("seed {seed}");
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        twins.reconnect();
        twins.send(&command(&["FLUSHALL"]));
        twins.compare(&[vec![b"FLUSHALL".to_vec()]]);
        if seed % 2 == 1 {
            let hello = command(&["HELLO", "3"]);
            twins.send(&hello);
            twins.ours.reply();
            twins.theirs.reply();
        }
        for _ in 0..60 {
            let count = random.random_range(1..60);
            let sent: Vec<Words> = (0..count).map(|_| random_command(&mut random)).collect();
            let bytes: Vec<u8> = sent.iter().flat_map(|words| command(words)).collect();
            // As it is cut here it may arrive: within words, and between them.
            let cut = random.random_range(0..=bytes.len());
            twins.send(&bytes[..cut]);
            twins.send(&bytes[cut..]);
            twins.compare(&sent);
        }
    });
}

#[test]
fn lines_and_broken_commands_get_the_same_bytes_as_from_redis() {
    let mut twins = Twins::start();
    let long = format!("nothing {} {}\r\n", "x".repeat(100), "y".repeat(100));
    let longer = format!("{} {}\r\n", "n".repeat(200), "x".repeat(200));
    let going_on = GOING_ON.iter().copied().chain([long.as_bytes(), longer.as_bytes()]);
    let going_on = going_on.map(|line| [line, b"*x\r\n"].concat());
    for line in going_on.chain(ENDING.iter().map(|line| line.to_vec())) {
        twins.reconnect();
        twins.send(&line);
        let (ours, theirs) = (twins.ours.rest(), twins.theirs.rest());
        assert!(ours == theirs, "to {}\nours   {}\ntheirs {}", text(&line), text(&ours), text(&theirs));
    }
}

/// Behind these the connection goes on.
const GOING_ON: &[&[u8]] = &[
    b"set a \"1 \\x41\\n\" \r\nget a\r\nstrlen a\r\n",
    b"set 'it\\'s' \"\"\nget 'it\\'s'\n\n\r\n",
    b"nothing a b\r\n",
    b"flushall\r\ndbsize\r\nset a 1\r\nmset b 2 c 3\r\ndbsize\r\ndel a b\r\ndbsize\r\n",
    b"NOTHING\r\n",
    b"nothing \"a\\r\\nb\" \"c\\x00d\" \"\\xff\"\r\n",
    b"\"a\\x00b\" c\r\n",
    b"get\r\nget a b\r\nset a\r\nmset a\r\nmset a 1 b\r\nping a b\r\necho\r\ndbsize x\r\n",
    b"config\r\nconfig get\r\nconfig nothing\r\nclient\r\nclient nothing\r\nclient id x\r\ncommand count x\r\n",
    b"config \"a\\x00b\" c\r\nconfig get save\r\nconfig get appendonly\r\nconfig get nothing\r\n",
    b"CONFIG GET DATA*\r\nconfig get SAVE sav[e]\r\n",
    b"hello 4\r\nhello x\r\nhello 3 nothing\r\nhello 3 AUTH a\r\nhello 3 auth nobody x\r\nhello 3 setname \"a b\"\r\n",
    b"auth x\r\nauth default x\r\nauth nobody x\r\nauth a b c\r\nselect 0\r\nselect 1\r\nselect x\r\nselect -1\r\n",
    b"select 99999999999\r\nclient setname \"a b\"\r\nclient getname\r\nclient setname abc\r\nclient getname\r\n",
    b"client setname \"\"\r\nclient getname\r\nclient list nothing\r\nclient list id x\r\nclient list id\r\n",
    b"client list id 999999\r\nclient list type nothing\r\nclient list type pubsub\r\nflushall nothing\r\n",
    b"flushall async sync\r\nflushdb async\r\ncommand list x y\r\ninfo nothing\r\nping \"a b\"\r\necho \"\"\r\n",
    b"scan\r\nscan x\r\nscan 0 count 0\r\nscan 0 count x\r\nscan 0 match\r\nscan 0 nothing x\r\nscan 1x\r\n",
    b"scan 18446744073709551616\r\nscan -1\r\nscan +0\r\nscan \"\"\r\n",
];

/// These are the end of a connection.
const ENDING: &[&[u8]] = &[
    b"get a\r\nquit now please\r\nget a\r\n",
    b"post / http\r\nget a\r\n",
    b"host: here\r\n",
    b"get \"a\r\n",
    b"get 'a'b\r\n",
    b"*2147483648\r\n",
    b"*-1\r\n*0\r\nping\r\n*x\r\n",
    b"*\r\n",
    b"*01\r\n",
    b"*1\r\n*1\r\n$4\r\nping\r\n",
    b"*1\r\n$-1\r\n",
    b"*1\r\n$04\r\nping\r\n",
    b"*1\r\n$8388609\r\n",
    b"*1\r\n$9223372036854775808\r\n",
    b"*1\r\nx\r\n",
    b"*1\r\n\r\r\n",
    b"*2\r\n$3\r\nget\r\n:1\r\n",
    b"*1\rX$4\rYpingzz*1\r\n$4\r\npingaa*x\r\n",
    b"get a\r\n*3\r\n$3\r\nset\r\n$1\r\na\r\nnothing\r\nget a\r\n",
];
