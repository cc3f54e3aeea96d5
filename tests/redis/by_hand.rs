//! What people type: redis-cli, and lines of words.
#![forbid(unsafe_code)]

use crate::{Served, node};
use std::io::Write;
use std::process::{Command, Stdio};

/// What redis-cli prints for lines that are typed.
fn typed(node: &Served, flags: &[&str], lines: &str) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-h", "127.0.0.1", "-p", node.port()]).args(flags);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("redis-cli is installed: scripts/verify does so");
    child.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn redis_cli_speaks_to_a_node_in_both_versions_of_the_protocol() {
    let node = node(|_| {});
    let lines = "ping\nset greeting \"hello world\"\nget greeting\nincr n\nincrby n 41\nmset a 1 b 2\n\
                 mget a b c\nexists a b c\ndel a b c\nget a\nincr greeting\nstrlen greeting\ntype greeting\n\
                 type a\ndbsize\nselect 1\nnothing here\nclient setname cli\nclient getname\n";
    let expected = "PONG\nOK\n\"hello world\"\n(integer) 1\n(integer) 42\nOK\n\
                    1) \"1\"\n2) \"2\"\n3) (nil)\n(integer) 2\n(integer) 2\n(nil)\n\
                    (error) ERR value is not an integer or out of range\n(integer) 11\nstring\nnone\n(integer) 2\n\
                    (error) ERR DB index is out of range\n\
                    (error) ERR unknown command 'nothing', with args beginning with: 'here' \n\nOK\n\"cli\"\n";
    let in_two = typed(&node, &["--no-raw"], lines);
    assert_eq!(in_two.replace("\n\n", "\n"), expected.replace("\n\n", "\n"));
    node.client().says("FLUSHALL");
    let in_three = typed(&node, &["--no-raw", "-3"], lines);
    assert_eq!(in_three.replace("\n\n", "\n"), expected.replace("\n\n", "\n"));
}

#[test]
fn lines_of_words_are_commands_too() {
    let node = node(|_| {});
    let mut client = node.client();
    client.send(b"set \"a b\" 'it\\'s'\r\nget \"a\\x20b\"\n\r\nPING\r\n");
    assert_eq!(client.reply(), b"+OK\r\n");
    assert_eq!(client.reply(), b"$4\r\nit's\r\n");
    assert_eq!(client.reply(), b"+PONG\r\n");
    client.send(b"quit\r\n");
    assert_eq!(client.rest(), b"+OK\r\n");
}
