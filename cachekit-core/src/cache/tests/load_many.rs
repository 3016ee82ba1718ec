//! Batches: what the source is asked, what each caller gets, and what becomes of the others when one goes.

use super::*;
use crate::cache::{DataLoader, DataLoaderConfig, LoadOptions};
use crate::guard::fill_lock::FillLocks;

type Asked = Arc<std::sync::Mutex<Vec<Vec<String>>>>;
type Answers = Result<Vec<Result<u32, String>>, String>;

const LONG: Duration = Duration::from_secs(3600);

/// A source of numbers: `n7` is 7, `x…` is an error of its key.
fn answer(keys: &[String]) -> Vec<Result<u32, String>> {
    keys.iter().map(|key| key.strip_prefix('n').and_then(|n| n.parse().ok()).ok_or(format!("no {key}"))).collect()
}

fn source(asked: &Asked) -> impl Fn(Vec<String>) -> std::future::Ready<Answers> + Send + Sync + 'static {
    let asked = Arc::clone(asked);
    move |keys| {
        let answers = answer(&keys);
        asked.lock().unwrap().push(keys);
        std::future::ready(Ok(answers))
    }
}

fn names(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

fn plain(answers: Vec<Result<Arc<u32>, LoadError<String>>>) -> Vec<Result<u32, String>> {
    answers.into_iter().map(|answer| answer.map(|value| *value).map_err(|error| error.to_string())).collect()
}

fn failed<T>(text: &str) -> Result<T, String> {
    Err(format!("the loader failed: {text}"))
}

#[tokio::test]
async fn the_source_is_asked_once_for_what_is_missing_and_errors_stay_with_their_keys() {
    let bench = Bench::new();
    let (cache, asked) = (bench.cache(), Asked::default());
    cache.set("n1", &1_u32).await.unwrap();
    bench.cache().set("n2", &2_u32).await.unwrap();
    let keys = names(&["n3", "n1", "x", "n2", "n3", "n4", "x"]);
    let answers = cache.try_get_or_load_many(&keys, LoadOptions::default(), source(&asked)).await.unwrap();
    let expected = [Ok(3), Ok(1), failed("no x"), Ok(2), Ok(3), Ok(4), failed("no x")];
    assert_eq!(plain(answers), expected);
    assert_eq!(*asked.lock().unwrap(), [names(&["n3", "x", "n4"])]);
    let stats = cache.stats();
    assert_eq!((stats.batch_loads, stats.batch_keys, stats.loads, stats.load_failures), (1, 3, 3, 1));
    // Both tiers were filled, and errors are kept nowhere.
    for cache in [cache, bench.cache()] {
        let found = cache.get_many::<u32, _>(&keys).await.unwrap();
        let found: Vec<Option<u32>> = found.into_iter().map(|value| value.map(|value| *value)).collect();
        assert_eq!(found, [Some(3), Some(1), None, Some(2), Some(3), Some(4), None]);
    }
}

#[tokio::test]
async fn a_source_that_fails_as_a_whole_fails_every_key_and_one_that_cannot_count_is_an_error() {
    let cache = Bench::new().cache();
    let keys = names(&["n1", "n2", "n1"]);
    // Without fences: the mark of a load that came to nothing stands for a millisecond more, and a key that meets one pauses, on a
    // busy machine for longer than the rest of its batch waits.
    let plainly = || LoadOptions::default().without_fill_locks();
    let down = |_| std::future::ready(Err::<Vec<Result<u32, String>>, _>("down".to_owned()));
    let answers = cache.try_get_or_load_many(&keys, plainly(), down).await.unwrap();
    assert_eq!(plain(answers), [failed("down"), failed("down"), failed("down")]);
    let short = |_: Vec<String>| std::future::ready(Ok::<_, String>(vec![Ok(1_u32)]));
    let answers = cache.try_get_or_load_many(&keys, plainly(), short).await.unwrap();
    for answer in answers {
        assert!(matches!(answer, Err(LoadError::Cache(Error::BatchAnswers { asked: 2, got: 1 }))), "{answer:?}");
    }
    assert_eq!(cache.stats().batch_failures, 2);
    assert!(cache.get::<u32>("n1").await.unwrap().is_none());
    let none: [&str; 0] = [];
    let nobody = cache.get_or_load_many(&none, async |_| -> Vec<Option<u32>> { panic!("nothing is missing") }).await;
    assert!(nobody.unwrap().is_empty());
}

#[tokio::test]
async fn a_key_without_a_value_is_none_and_the_rest_is_there() {
    let cache = Bench::new().cache();
    let load = async |keys: Vec<&str>| keys.iter().map(|key| key.parse::<u32>().ok()).collect();
    let found = cache.get_or_load_many(&["1", "two", "3"], load).await.unwrap();
    assert_eq!(found.into_iter().map(|value| value.map(|value| *value)).collect::<Vec<_>>(), [Some(1), None, Some(3)]);
}

#[tokio::test]
async fn a_key_that_somebody_else_is_loading_is_waited_for_and_holds_nobody_up() {
    let cache = Bench::new().cache();
    let (door, began) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (single, opens, begins) = (cache.clone(), Arc::clone(&door), Arc::clone(&began));
    let single = tokio::spawn(async move {
        let load = async || {
            begins.notify_one();
            opens.notified().await;
            Ok::<u32, String>(100)
        };
        *single.try_get_or_load("n1", load).await.unwrap()
    });
    began.notified().await;
    let asked = Asked::default();
    let (batch, loads) = (cache.clone(), source(&asked));
    let batch = tokio::spawn(async move {
        let keys = names(&["n1", "n2"]);
        plain(batch.try_get_or_load_many(&keys, LoadOptions::default(), loads).await.unwrap())
    });
    // The other key is loaded and stored while the first is still being waited for.
    while cache.get::<u32>("n2").await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!batch.is_finished());
    door.notify_one();
    assert_eq!(single.await.unwrap(), 100);
    assert_eq!(batch.await.unwrap(), [Ok(100), Ok(2)]);
    assert_eq!(*asked.lock().unwrap(), [names(&["n2"])]);
}

#[tokio::test]
async fn batches_that_cross_wait_for_each_other_in_no_circle() {
    let bench = Bench::new();
    let cache = bench.cache();
    let asked = Asked::default();
    let run = |keys: &[&str]| {
        let (cache, keys, asked) = (cache.clone(), names(keys), Arc::clone(&asked));
        tokio::spawn(async move {
            let load = |keys: Vec<String>| {
                let answers = answer(&keys);
                asked.lock().unwrap().push(keys);
                async {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    Ok(answers)
                }
            };
            plain(cache.try_get_or_load_many(&keys, LoadOptions::default(), load).await.unwrap())
        })
    };
    let (one, other) = (run(&["n1", "n2", "n3"]), run(&["n3", "n2", "n1", "n4"]));
    assert_eq!(one.await.unwrap(), [Ok(1), Ok(2), Ok(3)]);
    assert_eq!(other.await.unwrap(), [Ok(3), Ok(2), Ok(1), Ok(4)]);
    let mut keys: Vec<String> = asked.lock().unwrap().concat();
    keys.sort_unstable();
    assert_eq!(keys, names(&["n1", "n2", "n3", "n4"]), "each once");
}

#[tokio::test]
async fn keys_of_a_batch_are_fenced_and_locked_as_any_other() {
    let bench = Bench::new();
    let locks = FillLocks::default().with_hold(LONG).with_patience(LONG);
    let process = || bench.builder(Arc::new(bench.store.clone())).fill_locks(locks).build().unwrap();
    let (here, there) = (process(), process());
    let load = |keys: Vec<String>| {
        let there = there.clone();
        async move {
            // Written by another process during the load.
            there.set("n1", &100_u32).await.unwrap();
            there.set("n2", &200_u32).await.unwrap();
            there.delete("n2").await.unwrap();
            Ok(answer(&keys))
        }
    };
    let keys = names(&["n1", "n2", "n3"]);
    let answers = here.try_get_or_load_many(&keys, LoadOptions::default(), load).await.unwrap();
    assert_eq!(plain(answers), [Ok(1), Ok(2), Ok(3)], "what was loaded is returned");
    let found = process().get_many::<u32, _>(&keys).await.unwrap();
    let found: Vec<Option<u32>> = found.into_iter().map(|value| value.map(|value| *value)).collect();
    assert_eq!(found, [Some(100), None, Some(3)], "and not stored over what is newer");
    let stats = here.stats();
    assert_eq!((stats.fills_fenced, stats.fill_locks_taken), (2, 3));
}

#[tokio::test]
async fn a_batch_that_asks_for_its_own_key_does_not_wait_for_itself() {
    let cache = Bench::new().cache();
    let inner = cache.clone();
    let load = |keys: Vec<String>| {
        let inner = inner.clone();
        async move {
            let own = inner.try_get_or_load("n2", async || Ok::<u32, String>(7)).await;
            assert_eq!(*own.unwrap(), 7);
            Ok(answer(&keys))
        }
    };
    let keys = names(&["n1", "n2"]);
    let answers = cache.try_get_or_load_many(&keys, LoadOptions::default(), load).await.unwrap();
    assert_eq!(plain(answers), [Ok(1), Ok(2)]);
}

#[test]
fn batches_load_without_a_runtime() {
    let cache = Cache::builder().build().unwrap().blocking();
    let found = cache.get_or_load_many(&["1", "x"], |keys| keys.iter().map(|key| key.parse::<u32>().ok()).collect());
    assert_eq!(found.unwrap().into_iter().map(|value| value.map(|value| *value)).collect::<Vec<_>>(), [Some(1), None]);
    let loader =
        cache.cache().data_loader(DataLoaderConfig::default(), |keys: Vec<String>| async move { Ok(answer(&keys)) });
    assert_eq!(*loader.load_blocking("n9".to_owned()).unwrap(), 9);
}

#[tokio::test]
async fn options_that_cannot_work_are_named_before_any_loader_runs() {
    let (cache, asked) = (Bench::new().cache(), Asked::default());
    let zero = LoadOptions::default().with_ttl(Duration::ZERO);
    let crowded = (0..33).fold(LoadOptions::default(), |options, n| options.with_tag(format!("tag {n}")));
    let endless = LoadOptions::default().with_set(SetOptions::default().without_expiry().with_stale(LONG));
    let kept = LoadOptions::default().with_set(SetOptions::default().without_expiry().with_stale_if_error(LONG));
    let held = LoadOptions::default().with_fill_locks(FillLocks::default().with_hold(Duration::ZERO));
    let slow = LoadOptions::default().with_hard_timeout(Duration::ZERO);
    type IsNamed = fn(&Error) -> bool;
    let refused: [(LoadOptions, IsNamed); 6] = [
        (zero, |error| matches!(error, Error::ZeroTtl)),
        (crowded, |error| matches!(error, Error::Tag(_))),
        (endless, |error| matches!(error, Error::Freshness { .. })),
        (kept, |error| matches!(error, Error::Freshness { .. })),
        (held, |error| matches!(error, Error::FillLocks(_))),
        (slow, |error| matches!(error, Error::Freshness { .. })),
    ];
    let keys = names(&["n1", "n2"]);
    let one = || async { panic!("it is not asked") };
    for (options, is_named) in refused {
        let many = cache.try_get_or_load_many(&keys, options.clone(), source(&asked)).await;
        let config = DataLoaderConfig::default().with_options(options.clone());
        let by_one = cache.data_loader(config, source(&asked)).load("n1".to_owned()).await;
        let owned = cache.try_get_or_load_with::<u32, String, _, _>("n1", options.clone(), one).await;
        let borrowed = cache.try_get_or_load_here::<u32, String, _, _>("n1", options.clone(), one).await;
        let refreshed = cache.try_refresh_with::<u32, String, _, _>("n1", options, one).await;
        assert!(is_named(&many.unwrap_err()));
        for answer in [by_one, owned, borrowed, refreshed] {
            assert!(matches!(&answer, Err(LoadError::Cache(error)) if is_named(error)), "{answer:?}");
        }
    }
    assert_eq!((asked.lock().unwrap().len(), cache.stats().loads), (0, 0));
    // A window behind the life that the cache gives is one that can work.
    let bench = Bench::new();
    let cache = bench.builder(Arc::new(bench.store.clone())).default_ttl(LONG).build().unwrap();
    let answers = cache.try_get_or_load_many(&keys, LoadOptions::default().with_stale(LONG), source(&asked)).await;
    assert_eq!(plain(answers.unwrap()), [Ok(1), Ok(2)]);
}

#[tokio::test]
async fn a_batch_past_the_hard_timeout_of_its_cache_is_an_error_and_not_an_absence() {
    let bench = Bench::new();
    let timeout = Duration::from_millis(10);
    let cache = bench.builder(Arc::new(bench.store.clone())).hard_timeout(timeout).build().unwrap();
    let hangs = async |_: Vec<&str>| std::future::pending::<Vec<Option<u32>>>().await;
    let late = cache.get_or_load_many(&["a", "a"], hangs).await;
    assert!(matches!(late, Err(Error::LoadTimeout(after)) if after == timeout), "{late:?}");
}

type Numbers = DataLoader<String, u32, String>;

async fn load(loader: &Numbers, key: &str) -> Result<u32, String> {
    loader.load(key.to_owned()).await.map(|value| *value).map_err(|error| error.to_string())
}

#[tokio::test]
async fn single_loads_of_one_window_are_one_call_with_duplicates_merged() {
    let (cache, asked) = (Bench::new().cache(), Asked::default());
    // Closed by its fourth key: a machine that stumbles would end a short window between two of them.
    let config = DataLoaderConfig::default().with_window(LONG).with_max_batch(4);
    let loader = cache.data_loader(config, source(&asked));
    let keys = ["n1", "n2", "n1", "x", "n3"];
    let got = futures_util::future::join_all(keys.map(|key| load(&loader, key))).await;
    assert_eq!(got, [Ok(1), Ok(2), Ok(1), failed("no x"), Ok(3)]);
    assert_eq!(*asked.lock().unwrap(), [names(&["n1", "n2", "x", "n3"])]);
    assert_eq!(load(&loader, "n1").await, Ok(1));
    assert_eq!(asked.lock().unwrap().len(), 1, "it is in the cache");
}

#[tokio::test]
async fn a_window_ends_by_itself() {
    let (cache, asked) = (Bench::new().cache(), Asked::default());
    let loader = cache.data_loader(DataLoaderConfig::default().with_window(Duration::from_millis(5)), source(&asked));
    assert_eq!(load(&loader, "n1").await, Ok(1));
    assert_eq!(*asked.lock().unwrap(), [names(&["n1"])]);
}

#[tokio::test]
async fn a_full_batch_does_not_wait_for_its_window_and_what_does_not_fit_loads_alone() {
    let (cache, asked) = (Bench::new().cache(), Asked::default());
    let config = DataLoaderConfig::default().with_window(LONG).with_max_batch(3);
    let loader = cache.data_loader(config, source(&asked));
    let got = futures_util::future::join_all(["n1", "n2", "n3"].map(|key| load(&loader, key))).await;
    assert_eq!(got, [Ok(1), Ok(2), Ok(3)]);
    assert_eq!(asked.lock().unwrap().len(), 1);

    let config = DataLoaderConfig::default().with_window(Duration::from_millis(500)).with_max_waiting(2);
    let loader = cache.data_loader(config, source(&asked));
    asked.lock().unwrap().clear();
    let got = futures_util::future::join_all(["n4", "n5", "n6", "n4"].map(|key| load(&loader, key))).await;
    assert_eq!(got, [Ok(4), Ok(5), Ok(6), Ok(4)]);
    assert_eq!(*asked.lock().unwrap(), [names(&["n6"]), names(&["n4", "n5"])]);
    let none = cache.data_loader(DataLoaderConfig::default().with_max_waiting(0).with_max_batch(0), source(&asked));
    assert_eq!(load(&none, "n7").await, Ok(7));
}

#[tokio::test]
async fn a_driver_that_goes_away_or_panics_leaves_its_batch_to_the_next() {
    let (cache, asked) = (Bench::new().cache(), Asked::default());
    // Cancelled during the window.
    let config = DataLoaderConfig::default().with_window(LONG).with_max_batch(10);
    let loader = cache.data_loader(config, source(&asked));
    let (first, second) = (loader.clone(), loader.clone());
    let first = tokio::spawn(async move { load(&first, "n1").await });
    tokio::task::yield_now().await;
    let second = tokio::spawn(async move { load(&second, "n2").await });
    tokio::task::yield_now().await;
    first.abort();
    assert_eq!(second.await.unwrap(), Ok(2));
    assert_eq!(*asked.lock().unwrap(), [names(&["n2"])], "what nobody wants any more is not loaded");

    // Panics while it loads.
    let panics = cache.data_loader(
        DataLoaderConfig::default().with_window(Duration::from_millis(50)),
        |keys: Vec<String>| async move {
            assert!(!keys.contains(&"n3".to_owned()), "as loaders do");
            Ok(answer(&keys))
        },
    );
    let run = |key: &'static str| {
        let loader = panics.clone();
        tokio::spawn(async move { load(&loader, key).await })
    };
    let (driver, waiter) = (run("n3"), run("n4"));
    assert!(driver.await.is_err());
    assert_eq!(waiter.await.unwrap(), Ok(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_cancellation_nobody_who_stays_is_forgotten() {
    let (cache, asked) = (Bench::new().cache(), Asked::default());
    let config = DataLoaderConfig::default().with_window(Duration::from_millis(1)).with_max_batch(8);
    let loader = cache.data_loader(config, source(&asked));
    let mut dice = 20_u64;
    let mut stay = Vec::new();
    for n in 0..2000_u32 {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let loader = loader.clone();
        let task = tokio::spawn(async move { loader.load(format!("n{}", n / 2)).await.map(|value| *value) });
        if dice >> 62 == 0 {
            if dice >> 61 & 1 == 0 {
                tokio::task::yield_now().await;
            }
            task.abort();
        } else {
            stay.push((n / 2, task));
        }
    }
    for (n, task) in stay {
        let got = tokio::time::timeout(Duration::from_secs(60), task).await.expect("nobody waits for ever");
        assert_eq!(got.unwrap().unwrap(), n);
    }
}

/// A neighbour in the stripe of a key is another key.
#[tokio::test]
async fn of_two_keys_of_one_stripe_that_are_loaded_together_both_are_kept() {
    let (cache, asked) = (Bench::new().cache(), Asked::default());
    let stripe = |n: u32| cache.engine.writes.index(cache.engine.l1.hash(format!("ck:default:n{n}").as_bytes()));
    // The hashes have a seed of their own in each cache, so which keys share a stripe is another matter each time.
    let mut of_stripe = std::collections::HashMap::new();
    let (first, second) = (0..)
        .find_map(|n| of_stripe.insert(stripe(n), n).map(|earlier| (earlier, n)))
        .expect("there are more numbers than stripes");
    let keys = [format!("n{first}"), format!("n{second}")];
    let load = async || {
        let answers = cache.try_get_or_load_many(&keys, LoadOptions::default(), source(&asked)).await.unwrap();
        plain(answers)
    };
    for _ in 0..3 {
        assert_eq!(load().await, [Ok(first), Ok(second)]);
    }
    assert_eq!(*asked.lock().unwrap(), [keys.to_vec()]);
    assert_eq!(cache.stats().overtaken, 0);
}
