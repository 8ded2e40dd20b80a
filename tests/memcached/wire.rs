//! A memcached client that reads whatever comes back, and scripts of conversations (`record.py` describes them).

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
/// Asked for behind everything: its answer ends what was answered.
const END: &[u8] = b"MN\r\n";

pub struct Client {
    stream: TcpStream,
}

impl Client {
    pub fn open(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream })
    }

    /// All that is answered, as text; and whether the connection was closed behind it.
    pub fn ask(&mut self, raw: &[u8]) -> io::Result<(Vec<u8>, bool)> {
        // Where the connection is closed at once, not all of it may be taken any more.
        let written = self
            .stream
            .write_all(raw)
            .and_then(|()| self.stream.write_all(b"mn\r\n"));
        let mut seen = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        while !seen.ends_with(END) {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok((seen, true)),
                Ok(count) => seen.extend_from_slice(&buffer[..count]),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok((seen, true)),
                Err(e) => return Err(e),
            }
        }
        written?;
        seen.truncate(seen.len() - END.len());
        Ok((seen, false))
    }

    /// The same, of a connection that stays.
    pub fn call(&mut self, raw: &str) -> String {
        let (seen, closed) = self.ask(raw.as_bytes()).expect("the node answers");
        let text = String::from_utf8_lossy(&seen).into_owned();
        assert!(!closed, "closed after {raw:?}: {text:?}");
        text
    }

    /// One line for a line, or why there is none.
    pub fn line(&mut self, raw: &str) -> io::Result<String> {
        match self.ask(raw.as_bytes())? {
            (_, true) => Err(io::ErrorKind::UnexpectedEof.into()),
            (seen, false) => Ok(String::from_utf8_lossy(&seen).trim_end().to_string()),
        }
    }

    /// The next line, without its end.
    pub fn next_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            self.stream.read_exact(&mut byte)?;
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

/// A reply of Redis's to an inline command, with as many lines as it has.
pub fn redis(address: SocketAddr, command: &str) -> String {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the node listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut seen = String::new();
    stream
        .write_all(format!("{command}\r\nQUIT\r\n").as_bytes())
        .and_then(|()| stream.read_to_string(&mut seen))
        .expect("the node answers");
    let end = "+OK\r\n";
    seen.strip_suffix(end).expect("QUIT is answered").to_string()
}

type Names = BTreeMap<String, String>;

/// Bytes of a line of a script.
fn expand(text: &str, names: &Names) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        out.extend_from_slice(&unescape(before));
        let (inside, behind) = behind.split_once('}').expect("braces are closed");
        match inside.split_once('*') {
            Some((count, what)) => {
                let count = count.parse().expect("a count");
                out.extend_from_slice(what.repeat(count).as_bytes());
            }
            None => out.extend_from_slice(names[inside].as_bytes()),
        }
        rest = behind;
    }
    out.extend_from_slice(&unescape(rest));
    out
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(u8::try_from(c).expect("scripts are ASCII"));
            continue;
        }
        out.push(match chars.next().expect("an escape") {
            'r' => b'\r',
            'n' => b'\n',
            't' => b'\t',
            '\\' => b'\\',
            'x' => {
                let hex: String = chars.by_ref().take(2).collect();
                u8::from_str_radix(&hex, 16).expect("two digits")
            }
            other => panic!("\\{other} is no escape"),
        });
    }
    out
}

/// Plays a script and returns what was answered otherwise, and how many steps there were.
pub fn play(script: &str, addresses: &[SocketAddr], first: usize) -> (Vec<String>, usize) {
    let (mut wrong, mut steps) = (Vec::new(), 0);
    let mut names = Names::new();
    let mut cas: Option<String> = None;
    let mut request = None;
    let mut client = Client::open(addresses[first % addresses.len()]).expect("the node listens");
    client.call("flush_all\r\n");
    for line in script.lines() {
        if let Some(name) = line.strip_prefix("# cas ") {
            cas = Some(name.to_string());
        } else if let Some(text) = line.strip_prefix("> ") {
            request = Some(text);
        } else if let Some(expected) = line.strip_prefix("< ") {
            let text = request.take().expect("a request before its reply");
            steps += 1;
            let (seen, closed) = client.ask(&expand(text, &names)).expect("the node answers");
            if let Some(name) = cas.take() {
                let number = told(&seen, expected, &name);
                names.insert(name, number);
            }
            let (expected, closes) = match expected.strip_suffix("(closed)") {
                Some(expected) => (expected, true),
                None => (expected, false),
            };
            let expected = expand(expected, &names);
            if seen != expected || closed != closes {
                let (seen, expected) = (seen.escape_ascii(), expected.escape_ascii());
                wrong.push(format!(
                    "> {text}\n  expected {expected} {closes}\n  but      {seen} {closed}"
                ));
            }
            if closed {
                // Another node goes on.
                client =
                    Client::open(addresses[(first + steps) % addresses.len()]).expect("the node listens");
            }
        }
    }
    (wrong, steps)
}

/// The number that stands where the expected reply has the name.
fn told(seen: &[u8], expected: &str, name: &str) -> String {
    let (before, _) = expected
        .split_once(&format!("{{{name}}}"))
        .expect("the reply has the name");
    let from = expand(before, &Names::new()).len();
    let digits = seen.get(from..).unwrap_or_default();
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.map(|&byte| char::from(byte)).collect()
}
