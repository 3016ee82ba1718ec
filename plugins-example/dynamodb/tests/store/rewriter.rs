//! A server between the backend and moto that answers as a test says: with what moto answered, with that changed, or with
//! something of its own.
//!
//! The fault proxy of `tests/servers` breaks bytes; what DynamoDB does to its clients (throttling, half a batch, the item of
//! somebody else) is said in whole answers.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value as Json, json};

/// Longer than any test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request of the backend.
pub struct Asked {
    /// `GetItem`, and so on.
    pub operation: String,
    /// What was asked.
    pub body: Json,
    /// How many requests of this operation came before.
    pub before: usize,
    upstream: SocketAddr,
    head: Vec<u8>,
}

/// What the backend gets.
pub enum Answer {
    /// A status, and a body of whatever length.
    Whole(u16, Vec<u8>),
    /// As above, with headers of its own.
    With(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The beginning of an answer that announces more than comes, and the end of the connection.
    Cut(Vec<u8>),
    /// A body without end.
    Endless,
    /// The end of the connection.
    Nothing,
    /// Silence.
    Silence,
}

impl Answer {
    /// JSON with the status 200.
    pub fn json(body: &Json) -> Self {
        Self::Whole(200, body.to_string().into_bytes())
    }

    /// An error as DynamoDB writes it.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let code = format!("com.amazonaws.dynamodb.v20120810#{code}");
        Self::Whole(status, json!({ "__type": code, "message": message }).to_string().into_bytes())
    }
}

impl Asked {
    /// What moto answers to `body`.
    pub fn forward(&self, body: &Json) -> (u16, Json) {
        let body = body.to_string();
        let mut stream = TcpStream::connect(self.upstream).expect("moto listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut request = self.head.clone();
        request.extend(format!("content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).bytes());
        stream.write_all(&request).expect("moto reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("moto answers");
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n").expect("moto speaks HTTP");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, serde_json::from_str(body).unwrap_or(Json::Null))
    }

    /// What moto answers.
    pub fn pass(&self) -> Answer {
        let (status, body) = self.forward(&self.body);
        Answer::Whole(status, body.to_string().into_bytes())
    }
}

type Rewrite = dyn Fn(&Asked) -> Answer + Send + Sync;

/// A running one, ended when it is dropped.
pub struct Rewriter {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Rewriter {
    /// Stands in front of the server on `port`.
    pub fn start(port: u16, rewrite: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let (asked, ended) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
        let rewrite: Arc<Rewrite> = Arc::new(rewrite);
        let (seen, end) = (Arc::clone(&asked), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), rewrite) = (stream, Arc::clone(&rewrite)) else { continue };
                let (seen, end) = (Arc::clone(&seen), Arc::clone(&end));
                std::thread::spawn(move || {
                    // A client that goes away in the middle is what some tests are about.
                    let _ = serve(stream, ([127, 0, 0, 1], port).into(), &*rewrite, &seen, &end);
                });
            }
        });
        Self { addr, asked, ended, thread: Some(thread) }
    }

    /// `http://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// How often `operation` was asked for.
    pub fn count(&self, operation: &str) -> usize {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.iter().filter(|asked| *asked == operation).count()
    }
}

impl Drop for Rewriter {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut stream: TcpStream,
    upstream: SocketAddr,
    rewrite: &Rewrite,
    asked: &Mutex<Vec<String>>,
    ended: &AtomicBool,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let Some((head, operation, body)) = request(&mut reader)? else { return Ok(()) };
        let before = {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            let before = asked.iter().filter(|asked| **asked == operation).count();
            asked.push(operation.clone());
            before
        };
        let answer = rewrite(&Asked { operation, body, before, upstream, head });
        let (status, headers, body) = match answer {
            Answer::Whole(status, body) => (status, Vec::new(), body),
            Answer::With(status, headers, body) => (status, headers, body),
            Answer::Cut(body) => {
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len() + 1000);
                stream.write_all(&[head.as_bytes(), &body].concat())?;
                return Ok(());
            }
            Answer::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                let chunk = [format!("{:x}\r\n", 1 << 20).into_bytes(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
                loop {
                    stream.write_all(&chunk)?;
                }
            }
            Answer::Nothing => return Ok(()),
            Answer::Silence => {
                while !ended.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(20));
                }
                return Ok(());
            }
        };
        let mut head = format!("HTTP/1.1 {status} Status\r\ncontent-type: application/x-amz-json-1.0\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), &body].concat())?;
    }
}

/// The head without what is about the connection, the operation and the body; `None` at the end.
fn request(reader: &mut impl BufRead) -> io::Result<Option<(Vec<u8>, String, Json)>> {
    let (mut head, mut operation, mut length) = (Vec::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "connection" => {}
            "x-amz-target" => {
                operation = value.trim().rsplit('.').next().unwrap_or_default().to_owned();
                head.extend(line.bytes());
            }
            _ => head.extend(line.bytes()),
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((head, operation, serde_json::from_slice(&body).unwrap_or(Json::Null))))
}
