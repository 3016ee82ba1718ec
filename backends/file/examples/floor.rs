//! What the backend costs beside the bare system calls it cannot do without.
//!
//! `cargo run --release -p cachekit-backend-file --example floor [DIR]`: medians of nine rounds, in microseconds. The floor of a
//! get is open, flock, fstat, read, close; that of a set is create, write, (fsync,) rename over, close. Both work in the
//! same directory, on values of 1 KiB; the backend is called as the engine calls it, pool and future included.

use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use cachekit_backend_file::{Durability, FileBackend, FileConfig};
use cachekit_plugin::{Backend, Cx, Deadline, Fut, HostServices, Key, Open, Ttl};
use rustix::fs::{FlockOperation, Mode, OFlags};

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(waker: &Waker, mut future: Fut<'_, T>) -> T {
    loop {
        match future.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Ready(answer) => return answer.expect("the directory works"),
            Poll::Pending => std::thread::park(),
        }
    }
}

/// One round of `count` calls, microseconds each.
fn round(count: u32, mut call: impl FnMut()) -> f64 {
    let begun = Instant::now();
    for _ in 0..count {
        call();
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}

/// Medians of alternating rounds, so that both meet the same noise.
fn compare(name: &str, count: u32, mut floor: impl FnMut(), mut ours: impl FnMut()) {
    let (mut floors, mut our) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        floors.push(round(count, &mut floor));
        our.push(round(count, &mut ours));
    }
    floors.sort_by(f64::total_cmp);
    our.sort_by(f64::total_cmp);
    println!("{name:24} floor {:8.2}  backend {:8.2}  ratio {:.2}", floors[4], our[4], our[4] / floors[4]);
}

fn bare_get(dir: &impl rustix::fd::AsFd, name: &str) {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty()).expect("open");
    rustix::fs::flock(&fd, FlockOperation::NonBlockingLockShared).expect("flock");
    let size = rustix::fs::fstat(&fd).expect("fstat").st_size as usize;
    let mut value = vec![0; size];
    rustix::io::pread(&fd, &mut value[..], 0).expect("read");
    std::hint::black_box(value);
}

fn bare_set(dir: &impl rustix::fd::AsFd, value: &[u8], sync: bool) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(dir, "bare.tmp.0", flags, Mode::from_raw_mode(0o600)).expect("create");
    rustix::io::write(&fd, value).expect("write");
    if sync {
        rustix::fs::fsync(&fd).expect("fsync");
    }
    rustix::fs::renameat(dir, "bare.tmp.0", dir, "bare").expect("rename");
}

fn main() {
    let root = match std::env::args_os().nth(1) {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }
    .expect("a directory");
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let cx = Cx::new(Deadline::NEVER);
    let key = Key::from_wire(b"ck:users:some-key-of-usual-length");
    let value = vec![7_u8; 1024];
    for (durability, sync) in [(Durability::None, false), (Durability::File, true)] {
        let path = root.path().join(format!("{durability:?}"));
        let backend = FileBackend::open(FileConfig::new(&path).with_durability(durability), HostServices::none())
            .expect("open the backend");
        let dir = open_dir(&path);
        let set = || block_on(&waker, backend.set(key, value.clone().into(), Ttl::Never, &cx));
        compare(&format!("set {durability:?}"), if sync { 200 } else { 1000 }, || bare_set(&dir, &value, sync), set);
        if !sync {
            let get = || drop(std::hint::black_box(block_on(&waker, backend.get(key, &cx)).expect("a hit")));
            compare("get hit", 20_000, || bare_get(&dir, "bare"), get);
            let absent = Key::from_wire(b"absent");
            let miss = || assert!(block_on(&waker, backend.get(absent, &cx)).is_none());
            let bare = || assert!(rustix::fs::openat(&dir, "absent", OFlags::RDONLY, Mode::empty()).is_err());
            compare("get miss", 20_000, bare, miss);
            for kib in [64, 128, 256, 512, 1024] {
                let large = vec![7_u8; kib << 10];
                std::fs::write(path.join("bare"), &large).expect("write");
                block_on(&waker, backend.set(key, large.into(), Ttl::Never, &cx));
                let get = || drop(std::hint::black_box(block_on(&waker, backend.get(key, &cx)).expect("a hit")));
                compare(&format!("get hit {kib} KiB"), 500, || bare_get(&dir, "bare"), get);
            }
        }
    }
}

fn open_dir(path: &Path) -> rustix::fd::OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("open the directory")
}
