//! Random commands: all that can be compared, with words that are right and words that are not.
#![forbid(unsafe_code)]

use freight::limits::KEY_BYTES_MAX;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

pub(crate) type Words = Vec<Vec<u8>>;

/// Keys whose deadlines are told, and so are none that count from now.
const KEYS: &[&[u8]] = &[b"a", b"b", b"c", b"counter", b"", b"with space", b"\x00\xFF\r\n", b"a longer key than eight"];

/// Keys whose deadlines count from now.
const SOON: &[&[u8]] = &[b"soon", b"sooner"];

const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "10",
    "-17",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "abc",
    "",
    "01",
    "-0",
    " 1",
    "1.5",
    "+1",
    "99999999999999999999",
];

/// Deadlines far away.
const LATER: &[&str] = &["4102444800", "4102444800000", "4102444800001"];

/// Deadlines: some long ago, some far away, some that are none. None past the latest that we know, 2^56 - 1 ms.
const INSTANTS: &[&str] = &[
    "1",
    "100",
    "-5",
    "0",
    "4102444800",
    "4102444801",
    "4102444800000",
    "4102444800001",
    "9223372036854776",
    "-9223372036854775808",
    "abc",
    "1.5",
    "",
];

/// Times from now: far longer than a test takes, or none.
const SPANS: &[&str] =
    &["100000", "200000000", "4000000000000", "0", "-1", "9223372036854775807", "9223372036854775", "x", ""];

fn one<'a, T: ?Sized>(random: &mut ChaCha8Rng, of: &[&'a T]) -> &'a T {
    of[random.random_range(0..of.len())]
}

fn value(random: &mut ChaCha8Rng) -> Vec<u8> {
    match random.random_range(0..20) {
        0..6 => one(random, NUMBERS).as_bytes().to_vec(),
        6..8 => Vec::new(),
        8..16 => bytes(random, 0..40),
        16..19 => bytes(random, 40..3_000),
        _ => bytes(random, 3_000..200_000),
    }
}

fn bytes(random: &mut ChaCha8Rng, lengths: std::ops::Range<usize>) -> Vec<u8> {
    (0..random.random_range(lengths)).map(|_| random.random()).collect()
}

/// A value that would do as a key: longer ones we refuse, and Redis does not.
fn word(random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut word = value(random);
    word.truncate(KEY_BYTES_MAX as usize);
    word
}

/// A command: most often one that does something.
pub(crate) fn random_command(random: &mut ChaCha8Rng) -> Words {
    let mut words = right_command(random);
    if random.random_bool(0.06) {
        match random.random_range(0..4) {
            0 => words.push(word(random)),
            1 => drop(words.pop()),
            2 => words.insert(random.random_range(0..=words.len()), word(random)),
            _ => words[0] = bytes(random, 0..12),
        }
    }
    if words.is_empty() {
        words.push(b"PING".to_vec());
    }
    words[0].iter_mut().for_each(|byte| {
        if random.random_bool(0.3) {
            byte.make_ascii_lowercase();
        }
    });
    words
}

fn right_command(random: &mut ChaCha8Rng) -> Words {
    match random.random_range(0..10) {
        0..4 => read(random),
        4..6 => write(random),
        6 => with_options(random),
        7 => deadline(random),
        _ => several(random),
    }
}

fn words(words: &[&[u8]]) -> Words {
    words.iter().map(|word| word.to_vec()).collect()
}

fn any_key(random: &mut ChaCha8Rng) -> &'static [u8] {
    if random.random_bool(0.2) { one(random, SOON) } else { one(random, KEYS) }
}

fn read(random: &mut ChaCha8Rng) -> Words {
    match random.random_range(0..10) {
        0..5 => words(&[b"GET", any_key(random)]),
        5 => words(&[one(random, &[&b"STRLEN"[..], b"TYPE"]), any_key(random)]),
        6 => words(&[one(random, &[&b"EXPIRETIME"[..], b"PEXPIRETIME"]), one(random, KEYS)]),
        7 => words(&[one(random, &[&b"PING"[..], b"ECHO"]), &value(random)]),
        8 => words(&[b"SELECT", one(random, NUMBERS).as_bytes()]),
        _ => words(&[one(random, &[&b"PING"[..], b"ECHO"])]),
    }
}

fn write(random: &mut ChaCha8Rng) -> Words {
    let key = any_key(random);
    match random.random_range(0..13) {
        0..4 => words(&[b"SET", key, &value(random)]),
        4..6 => words(&[one(random, &[&b"SETNX"[..], b"GETSET", b"APPEND"]), key, &value(random)]),
        6..8 => words(&[one(random, &[&b"INCR"[..], b"DECR"]), key]),
        8..10 => words(&[one(random, &[&b"INCRBY"[..], b"DECRBY"]), key, one(random, NUMBERS).as_bytes()]),
        10 => words(&[b"GETDEL", key]),
        11 if random.random_bool(0.05) => words(&[one(random, &[&b"FLUSHALL"[..], b"FLUSHDB"])]),
        _ => words(&[one(random, &[&b"DEL"[..], b"UNLINK", b"PERSIST"]), key]),
    }
}

/// SET and GETEX with options that fit together, and with some that do not.
fn with_options(random: &mut ChaCha8Rng) -> Words {
    let is_set = random.random_bool(0.6);
    let is_soon = random.random_bool(0.3);
    let key = one(random, if is_soon { SOON } else { KEYS });
    let mut words = if is_set { words(&[b"SET", key, &value(random)]) } else { words(&[b"GETEX", key]) };
    for _ in 0..random.random_range(0..4) {
        match random.random_range(0..6) {
            0 if is_soon => {
                words.push(one(random, &[&b"EX"[..], b"PX"]).to_vec());
                words.push(one(random, SPANS).into());
            }
            0 | 1 => {
                words.push(one(random, &[&b"EXAT"[..], b"PXAT"]).to_vec());
                // Redis lets SET leave a record that has expired, and counts it until somebody asks for it.
                words.push(one(random, if is_set { LATER } else { INSTANTS }).into());
            }
            2 => words.push(one(random, &[&b"NX"[..], b"XX"]).to_vec()),
            3 => words.push(b"GET".to_vec()),
            4 => words.push(b"KEEPTTL".to_vec()),
            _ => words.push(b"PERSIST".to_vec()),
        }
    }
    words
}

fn deadline(random: &mut ChaCha8Rng) -> Words {
    let mut words = match random.random_range(0..6) {
        0 => words(&[one(random, &[&b"EXPIRE"[..], b"PEXPIRE"]), one(random, SOON), one(random, SPANS).as_bytes()]),
        1 => {
            let name = one(random, &[&b"SETEX"[..], b"PSETEX"]);
            words(&[name, one(random, SOON), one(random, SPANS).as_bytes(), &value(random)])
        }
        _ => {
            let name = one(random, &[&b"EXPIREAT"[..], b"PEXPIREAT"]);
            words(&[name, any_key(random), one(random, INSTANTS).as_bytes()])
        }
    };
    if words.len() == 3 {
        // Which of two equal times from now is later, clocks say: tests/redis/properties.rs has them.
        let is_instant = words[0].ends_with(b"AT");
        let options: &[&str] = if is_instant { &["NX", "XX", "no", "GT", "LT", "gt"] } else { &["NX", "XX", "no"] };
        for _ in 0..random.random_range(0..3) {
            words.push(one(random, options).into());
        }
    }
    words
}

/// A command on several keys.
fn several(random: &mut ChaCha8Rng) -> Words {
    let name = one(random, &["MGET", "MSET", "DEL", "UNLINK", "EXISTS"]);
    let mut words = vec![name.into()];
    for _ in 0..random.random_range(1..6) {
        words.push(any_key(random).to_vec());
        if name == "MSET" {
            words.push(value(random));
        }
    }
    words
}
