//! A small Redis client that tells a lost reply from an error reply.

use std::io::{self, BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than a gateway tries (`request_ms`), so that its last word is heard.
pub const PATIENCE: Duration = Duration::from_secs(25);

#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    Nil,
    NilArray,
    Array(Vec<Reply>),
    /// Of RESP3: not asked for.
    Push(Vec<Reply>),
}

impl Reply {
    pub fn is_ok(&self) -> bool {
        matches!(self, Reply::Simple(text) if text == "OK")
    }

    /// A string that is there, as text.
    pub fn text(&self) -> Option<String> {
        match self {
            Reply::Bulk(data) => Some(String::from_utf8_lossy(data).into_owned()),
            _ => None,
        }
    }

    /// The number that a string or an integer holds; an absent key counts as 0.
    pub fn number(&self) -> Option<i64> {
        match self {
            Reply::Int(number) => Some(*number),
            Reply::Nil => Some(0),
            _ => self.text()?.parse().ok(),
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    Done(Reply),
    /// EXEC's null: a watched key had changed.
    Conflict,
    /// An error that proves that nothing happened.
    Refused(String),
    /// `UNKNOWN <id> …`; the id.
    Open(String),
    /// The connection broke.
    Lost(String),
}

impl Fate {
    /// # Panics
    /// An error that no healthy or failing cluster may give to a correct request.
    pub fn of(reply: io::Result<Reply>) -> Fate {
        match reply {
            Ok(Reply::NilArray) => Fate::Conflict,
            Ok(Reply::Error(text)) => {
                let mut words = text.split(' ');
                match words.next() {
                    Some("UNKNOWN") => Fate::Open(words.next().unwrap_or_default().to_string()),
                    Some("TRYAGAIN" | "ABORTED" | "CLUSTERDOWN") => Fate::Refused(text),
                    _ => panic!("neither definite nor UNKNOWN: {text:?}"),
                }
            }
            Ok(reply) => Fate::Done(reply),
            Err(e) => Fate::Lost(e.to_string()),
        }
    }

    /// Whether it may have happened although nobody said so.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Fate::Open(_) | Fate::Lost(_))
    }
}

pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn open(address: SocketAddr) -> io::Result<Client> {
        Client::open_for(address, PATIENCE)
    }

    /// A client that waits `patience` for each reply.
    pub fn open_for(address: SocketAddr, patience: Duration) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Client {
            reader: BufReader::new(stream),
        })
    }

    /// From now on waits `patience` for each reply.
    #[allow(dead_code, reason = "tests/nemesis.rs connects faster than it waits")]
    pub fn wait_for(&mut self, patience: Duration) -> io::Result<()> {
        self.reader.get_ref().set_read_timeout(Some(patience))
    }

    pub fn call(&mut self, request: &[&str]) -> io::Result<Reply> {
        self.send(&encode(request))?;
        self.receive()
    }

    /// Several requests at once; their replies in order.
    pub fn pipeline(&mut self, requests: &[Vec<String>]) -> io::Result<Vec<Reply>> {
        let bytes: Vec<u8> = requests.iter().flat_map(|request| encode(request)).collect();
        self.send(&bytes)?;
        requests.iter().map(|_| self.receive()).collect()
    }

    /// MULTI, the commands, EXEC; EXEC's reply.
    pub fn multi(&mut self, commands: &[Vec<String>]) -> io::Result<Reply> {
        let mut requests = vec![vec!["MULTI".to_string()]];
        requests.extend_from_slice(commands);
        requests.push(vec!["EXEC".to_string()]);
        let mut replies = self.pipeline(&requests)?;
        replies
            .pop()
            .ok_or_else(|| Error::new(ErrorKind::InvalidData, "no reply to EXEC"))
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    pub fn receive(&mut self) -> io::Result<Reply> {
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let Some(line) = line.strip_suffix("\r\n") else {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the connection was closed"));
        };
        let wrong = || Error::new(ErrorKind::InvalidData, format!("not a reply: {line:?}"));
        let (kind, rest) = line.split_at_checked(1).ok_or_else(wrong)?;
        let number = || rest.parse::<i64>().map_err(|_| wrong());
        match kind {
            "+" => Ok(Reply::Simple(rest.into())),
            "-" => Ok(Reply::Error(rest.into())),
            ":" => Ok(Reply::Int(number()?)),
            "$" => match usize::try_from(number()?) {
                Err(_) => Ok(Reply::Nil),
                Ok(size) => {
                    let mut data = vec![0; size + 2];
                    self.reader.read_exact(&mut data)?;
                    data.truncate(size);
                    Ok(Reply::Bulk(data))
                }
            },
            "*" => match usize::try_from(number()?) {
                Err(_) => Ok(Reply::NilArray),
                Ok(size) => {
                    let items: io::Result<_> = (0..size).map(|_| self.receive()).collect();
                    Ok(Reply::Array(items?))
                }
            },
            "_" => Ok(Reply::Nil),
            ">" | "~" | "%" => {
                let size = usize::try_from(number()?).map_err(|_| wrong())? * if kind == "%" { 2 } else { 1 };
                let items: io::Result<_> = (0..size).map(|_| self.receive()).collect();
                Ok(if kind == ">" {
                    Reply::Push(items?)
                } else {
                    Reply::Array(items?)
                })
            }
            _ => Err(wrong()),
        }
    }

    /// Another handle to the connection, to send by.
    #[allow(dead_code, reason = "tests/nemesis.rs waits for each reply")]
    pub fn sender(&self) -> io::Result<TcpStream> {
        self.reader.get_ref().try_clone()
    }
}

pub fn encode<S: AsRef<str>>(request: &[S]) -> Vec<u8> {
    let args = request.iter().map(AsRef::as_ref);
    let args: Vec<String> = args.map(|arg| format!("${}\r\n{arg}\r\n", arg.len())).collect();
    format!("*{}\r\n{}", request.len(), args.concat()).into_bytes()
}

/// The words of a request.
pub fn words(request: &[&str]) -> Vec<String> {
    request.iter().map(ToString::to_string).collect()
}
