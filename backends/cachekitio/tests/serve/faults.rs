//! A network that delays, stalls, cuts, garbles and doubles, between this client and a real server: never a wrong value,
//! every call ends, and when the fault is over the client works again by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cachekit_plugin::{Backend, Cx, Key, Ttl};
use cachekit_serve::KeyRule;
use cachekit_test_servers::proxy::{Fault, Proxy};

use crate::served::Served;

/// As the production preset has it.
const BUDGET: Duration = Duration::from_millis(250);
/// Without a fault every read is answered, and how soon is not asked.
const PATIENCE: Duration = Duration::from_secs(30);

fn value_of(key: usize) -> Vec<u8> {
    format!("value-{key}-").repeat(200).into_bytes()
}

fn name_of(key: usize) -> String {
    format!("ck:faults:{key}")
}

/// Calls by 8 callers, `each` of them one after the other and within `budget`; how many reads got their value.
async fn calls(backend: &Arc<dyn Backend>, each: usize, budget: Duration) -> usize {
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..8 {
        let backend = Arc::clone(backend);
        callers.spawn(async move {
            let mut got = 0;
            for number in 0..each {
                let key = (caller * 31 + number * 7) % 64;
                let name = name_of(key);
                let (wire, cx) = (Key::from_wire(name.as_bytes()), Cx::within(budget));
                if number % 5 == 0 {
                    // The same value again: whatever becomes of it, the entry stays what it is.
                    let _ = backend.set(wire, value_of(key).into(), Ttl::Never, &cx).await;
                } else if let Ok(found) = backend.get(wire, &cx).await {
                    let found = found.expect("an entry that is there is no miss");
                    assert_eq!(&found[..], value_of(key), "a wrong value for {name}");
                    got += 1;
                }
            }
            got
        });
    }
    callers.join_all().await.into_iter().sum()
}

#[test]
fn no_fault_of_the_network_makes_a_wrong_value_and_all_of_them_pass() {
    let served = Served::start(KeyRule::CachekitIo);
    let proxy = Proxy::start(("127.0.0.1", served.port));
    let backend = served.open_at(proxy.port()).unwrap();
    served.runtime.block_on(async {
        for key in 0..64 {
            let (name, cx) = (name_of(key), Cx::within(PATIENCE));
            backend.set(Key::from_wire(name.as_bytes()), value_of(key).into(), Ttl::Never, &cx).await.unwrap();
        }
        for (fault, each) in [
            (Fault::None, 50),
            (Fault::Delay(Duration::from_millis(3)), 50),
            (Fault::Trickle { bytes: 512, every: Duration::from_millis(1) }, 50),
            (Fault::Reset, 50),
            (Fault::Refuse, 50),
            (Fault::CutAfter(700), 50),
            (Fault::CutAfter(20_000), 50),
            (Fault::Garble(1), 50),
            (Fault::Garble(2), 50),
            (Fault::Duplicate, 50),
            // Each of these calls lasts until its deadline.
            (Fault::Stall, 5),
            (Fault::HalfOpen, 5),
            (Fault::BlackHole, 5),
            (Fault::BlackHole, 20),
        ] {
            proxy.set(fault);
            // Where every read must be answered, none may fail because the machine is busy.
            let budget = if fault == Fault::None { Duration::from_secs(30) } else { BUDGET };
            let got = calls(&backend, each, budget).await;
            proxy.set(Fault::None);
            let lifted = Instant::now();
            let name = name_of(1);
            // Held by the number of attempts, each of which ends at its deadline.
            let mut attempts = 1;
            while backend.get(Key::from_wire(name.as_bytes()), &Cx::within(BUDGET)).await.is_err() {
                attempts += 1;
                assert!(attempts <= 100, "{fault:?} is over and the client does not come back");
            }
            println!(
                "{fault:?}: {got} reads of {each} rounds answered; back after {attempts} calls, {:?}",
                lifted.elapsed()
            );
            assert!(fault != Fault::None || got == 320, "without a fault every read is answered");
        }
    });
}
