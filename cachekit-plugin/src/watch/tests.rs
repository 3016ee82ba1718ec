//! The way to a sink: its end, and what a sink may do on it.

use std::sync::mpsc;
use std::time::Duration;

use super::*;

/// Remembers what it was told, and does what the test wants meanwhile.
struct Told {
    events: Mutex<Vec<String>>,
    meanwhile: Box<dyn Fn(Event<'_>) + Send + Sync>,
}

impl Told {
    fn new(meanwhile: impl Fn(Event<'_>) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { events: Mutex::default(), meanwhile: Box::new(meanwhile) })
    }

    fn events(&self) -> Vec<String> {
        lock(&self.events).clone()
    }
}

impl WatchSink for Told {
    fn event(&self, event: Event<'_>) {
        let text = match event {
            Event::Changed(key) => format!("changed {}", key.as_str().unwrap()),
            Event::Everything => "everything".into(),
            Event::Lost => "lost".into(),
        };
        lock(&self.events).push(text);
        (self.meanwhile)(event);
    }
}

fn changed(key: &str) -> Event<'_> {
    Event::Changed(Key::from_wire(key.as_bytes()))
}

#[test]
fn events_pass_in_their_order_until_the_watch_is_lost() {
    let told = Told::new(|_| {});
    let outlet = Outlet::new(told.clone());
    assert!(outlet.tell(changed("a")) && outlet.tell(Event::Everything));
    assert!(!outlet.tell(Event::Lost));
    assert!(!outlet.tell(changed("b")) && !outlet.tell(Event::Lost));
    assert_eq!(told.events(), ["changed a", "everything", "lost"]);
    assert_eq!(Arc::strong_count(&told), 1, "what is over keeps no sink");
}

#[test]
fn a_closed_watch_tells_nothing_and_lets_go_of_its_sink() {
    let told = Told::new(|_| {});
    let outlet = Outlet::new(told.clone());
    outlet.close();
    assert!(!outlet.tell(changed("a")));
    assert!(told.events().is_empty());
    assert_eq!(Arc::strong_count(&told), 1);
}

#[test]
fn closing_waits_for_an_event_that_is_being_told() {
    let (entered, inside) = mpsc::channel();
    let (release, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let left = Arc::new(AtomicBool::new(false));
    let told = Told::new({
        let left = Arc::clone(&left);
        move |_| {
            entered.send(()).unwrap();
            lock(&wait).recv().unwrap();
            left.store(true, Ordering::SeqCst);
        }
    });
    let outlet = Outlet::new(told);
    std::thread::scope(|scope| {
        scope.spawn(|| outlet.tell(changed("a")));
        inside.recv().unwrap();
        let (closed, closing) = mpsc::channel();
        let (outlet, left) = (&outlet, &left);
        scope.spawn(move || {
            outlet.close();
            closed.send(left.load(Ordering::SeqCst)).unwrap();
        });
        assert!(closing.recv_timeout(Duration::from_millis(50)).is_err(), "closed while an event was being told");
        release.send(()).unwrap();
        assert!(closing.recv().unwrap(), "close returned before the event had been told");
    });
}

#[test]
fn a_sink_may_end_its_own_watch() {
    let slot: Arc<Mutex<Option<Arc<Outlet>>>> = Arc::default();
    let told = Told::new({
        let slot = Arc::clone(&slot);
        move |_| {
            let outlet = lock(&slot).take();
            outlet.inspect(|outlet| outlet.close());
        }
    });
    let outlet = Outlet::new(told.clone());
    *lock(&slot) = Some(Arc::clone(&outlet));
    outlet.tell(changed("a"));
    outlet.tell(changed("b"));
    assert_eq!(told.events(), ["changed a"]);
}

#[test]
fn a_sink_that_panics_is_told_that_it_lost_the_rest() {
    let told = Told::new(|event| assert!(!matches!(event, Event::Changed(_)), "a sink that panics"));
    let outlet = Outlet::new(told.clone());
    assert!(!outlet.tell(changed("a")));
    assert!(!outlet.tell(changed("b")));
    assert_eq!(told.events(), ["changed a", "lost"]);
    assert!(outlet.is_closed());
}

#[test]
fn a_sink_that_causes_an_event_while_it_takes_one_is_told_that_it_lost_it() {
    let slot: Arc<Mutex<Option<Arc<Outlet>>>> = Arc::default();
    let told = Told::new({
        let slot = Arc::clone(&slot);
        move |event| {
            let outlet = lock(&slot).clone();
            if let (Event::Changed(_), Some(outlet)) = (event, outlet) {
                assert!(!outlet.tell(changed("b")));
            }
        }
    });
    let outlet = Outlet::new(told.clone());
    *lock(&slot) = Some(Arc::clone(&outlet));
    assert!(!outlet.tell(changed("a")));
    assert_eq!(told.events(), ["changed a", "lost"]);
    lock(&slot).take();
}
