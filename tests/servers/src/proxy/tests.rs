//! Each fault happens, and without one nothing does: a proxy that does nothing would make every other test green.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{Direction, Fault, Proxy};
use crate::process::until;

/// Longer than an answer takes on the busiest machine; no test waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that answers every byte with itself.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut chunk = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut chunk) {
                    if stream.write_all(&chunk[..read]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    addr
}

fn client(proxy: &Proxy) -> TcpStream {
    let client = TcpStream::connect(proxy.addr()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

fn ask(client: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    client.write_all(text)?;
    let mut answer = vec![0; text.len()];
    client.read_exact(&mut answer).map(|()| answer)
}

fn silent(client: &mut TcpStream) {
    client.write_all(b"anybody?").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let read = client.read(&mut [0; 8]).unwrap_err();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(matches!(read.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{read}");
}

#[test]
fn without_a_fault_everything_passes() {
    let proxy = Proxy::start(echo());
    let mut client = client(&proxy);
    let long: Vec<u8> = (0..100_000_u32).map(|n| n as u8).collect();
    let (mut half, sent) = (client.try_clone().unwrap(), long.clone());
    let writer = std::thread::spawn(move || half.write_all(&sent).unwrap());
    let mut answer = vec![0; long.len()];
    client.read_exact(&mut answer).unwrap();
    writer.join().unwrap();
    assert_eq!(answer, long);
    assert_eq!(proxy.connections(), 1);
    assert_eq!(proxy.delivered(Direction::Requests), long.len() as u64);
}

#[test]
fn a_delay_delays() {
    let proxy = Proxy::start(echo());
    proxy.set(Fault::Delay(Duration::from_millis(80)));
    let began = Instant::now();
    assert_eq!(ask(&mut client(&proxy), b"hello").unwrap(), b"hello");
    assert!(began.elapsed() >= Duration::from_millis(80));
}

#[test]
fn a_stall_holds_back_and_then_delivers() {
    let proxy = Proxy::start(echo());
    let mut client = client(&proxy);
    assert!(ask(&mut client, b"before").is_ok());
    proxy.set(Fault::Stall);
    silent(&mut client);
    proxy.set(Fault::None);
    let mut late = [0; 8];
    client.read_exact(&mut late).unwrap();
    assert_eq!(&late, b"anybody?");
}

#[test]
fn a_black_hole_swallows_and_what_lost_bytes_never_speaks_again() {
    let proxy = Proxy::start(echo());
    let (mut loses, mut keeps) = (client(&proxy), client(&proxy));
    assert!(ask(&mut loses, b"before").is_ok() && ask(&mut keeps, b"before").is_ok());
    proxy.set(Fault::BlackHole);
    silent(&mut loses);
    silent(&mut client(&proxy));
    proxy.set(Fault::None);
    silent(&mut loses);
    assert_eq!(ask(&mut keeps, b"after").unwrap(), b"after");
}

#[test]
fn a_reset_resets_open_and_new_connections() {
    let proxy = Proxy::start(echo());
    let mut open = client(&proxy);
    assert!(ask(&mut open, b"before").is_ok());
    proxy.set(Fault::Reset);
    assert_eq!(open.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let new = TcpStream::connect(proxy.addr()).and_then(|mut new| new.read(&mut [0; 8]));
    assert_eq!(new.unwrap_err().kind(), ErrorKind::ConnectionReset);
    proxy.set(Fault::None);
    assert!(ask(&mut client(&proxy), b"after").is_ok());
    let mut again = client(&proxy);
    assert!(ask(&mut again, b"before").is_ok());
    proxy.reset_once();
    assert!(ask(&mut again, b"after").is_err());
    assert!(ask(&mut client(&proxy), b"after").is_ok());
}

#[test]
fn of_many_open_connections_none_escapes_a_reset() {
    let proxy = Proxy::start(echo());
    let mut clients: Vec<TcpStream> = (0..200).map(|_| client(&proxy)).collect();
    for client in &mut clients {
        assert!(ask(client, b"before").is_ok());
    }
    proxy.reset_once();
    for client in &mut clients {
        assert!(ask(client, b"after").is_err(), "a connection that was open is not reset");
    }
    assert_eq!(ask(&mut client(&proxy), b"after").unwrap(), b"after");
}

#[test]
fn a_half_open_connection_is_closed_at_the_server_and_silent_at_the_client() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(server.local_addr().unwrap());
    let mut client = client(&proxy);
    let mut accepted = server.accept().unwrap().0;
    proxy.set(Fault::HalfOpen);
    assert_eq!(accepted.read(&mut [0; 8]).unwrap_or(0), 0);
    silent(&mut client);
}

#[test]
fn a_refusal_refuses_new_connections_alone() {
    let proxy = Proxy::start(echo());
    let mut open = client(&proxy);
    assert!(ask(&mut open, b"before").is_ok());
    proxy.set(Fault::Refuse);
    let connect = || TcpStream::connect(proxy.addr());
    until("connections are refused", Duration::from_secs(5), || {
        connect().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
    assert!(ask(&mut open, b"still").is_ok());
    proxy.set(Fault::None);
    until("connections are accepted again", Duration::from_secs(5), || connect().is_ok());
    assert!(ask(&mut client(&proxy), b"after").is_ok());
}

#[test]
fn a_cut_comes_after_exactly_so_many_bytes() {
    let proxy = Proxy::start(echo());
    proxy.set(Fault::CutAfter(3));
    let mut client = client(&proxy);
    client.write_all(b"hello").unwrap();
    let mut got = Vec::new();
    // The end may be a farewell or a reset.
    let _ = client.read_to_end(&mut got);
    assert_eq!(got, b"hel");
}

#[test]
fn garbling_changes_some_bytes_the_same_way_each_time() {
    let text = vec![b'a'; 1000];
    let garbled = |seed| {
        let proxy = Proxy::start(echo());
        proxy.set(Fault::Garble(seed));
        ask(&mut client(&proxy), &text).unwrap()
    };
    let (first, again, other) = (garbled(7), garbled(7), garbled(8));
    let changed = first.iter().filter(|byte| **byte != b'a').count();
    assert!((30..100).contains(&changed), "{changed}");
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
fn a_duplicate_comes_twice() {
    let proxy = Proxy::start(echo());
    proxy.set(Fault::Duplicate);
    let mut client = client(&proxy);
    client.write_all(b"once").unwrap();
    let mut answer = [0; 8];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"onceonce");
}

#[test]
fn a_trickle_takes_its_time() {
    let proxy = Proxy::start(echo());
    proxy.set(Fault::Trickle { bytes: 1, every: Duration::from_millis(10) });
    let began = Instant::now();
    assert_eq!(ask(&mut client(&proxy), b"0123456789").unwrap(), b"0123456789");
    assert!(began.elapsed() >= Duration::from_millis(90));
}

#[test]
fn faults_of_one_direction_leave_the_other_alone() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(server.local_addr().unwrap());
    proxy.set_on(Direction::Requests, Fault::Garble(1));
    let mut client = client(&proxy);
    let mut accepted = server.accept().unwrap().0;
    client.write_all(&[b'a'; 500]).unwrap();
    let mut request = [0; 500];
    accepted.read_exact(&mut request).unwrap();
    assert_ne!(request, [b'a'; 500]);
    accepted.write_all(&[b'b'; 200]).unwrap();
    let mut reply = [0; 200];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(reply, [b'b'; 200]);
}
