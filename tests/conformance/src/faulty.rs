//! The negative control of the kit: backends that are wrong in exactly one way, with the cases that have to say so.
//!
//! A case that no fault can turn red proves nothing, and a fault that no case finds is a hole. Both are tested: every
//! fault here fails in each of its cases for the reason named, and every case of the table is named by at least one fault.

mod backend;
mod dated;
mod powers;
mod watching;

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cachekit_plugin::{Backend, Bytes, HostServices, Open, WatchGuard, WatchSink};

use crate::harness::{Harness, Opened};
use crate::memory::{Memory, MemoryConfig};

/// A row: what the fault does, its name, and the cases that catch it with a part of the reason they give.
macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $fault:ident: $($case:ident $reason:literal)+;)+) => {
        /// One way to be wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Fault {
            $($(#[doc = $doc])+ $fault,)+
        }

        impl Fault {
            /// Every fault there is.
            pub const ALL: &[Self] = &[$(Self::$fault,)+];

            /// The cases that have to fail on it, each with a part of the reason it has to give.
            pub fn caught_by(self) -> &'static [(&'static str, &'static str)] {
                match self {
                    $(Self::$fault => &[$((stringify!($case), $reason)),+],)+
                }
            }
        }
    };
}

faults! {
    /// One bit of each value flips.
    FlipsABit: a_value_reads_back_as_it_was_written "after a set: get returned";
    /// A miss is an error.
    MissIsAnError: a_missing_key_is_an_answer_and_no_error "get failed (internal): no such key";
    /// A value that is there is never replaced.
    KeepsTheFirstValue:
        the_last_write_wins "after write 1"
        values_read_before_outlive_overwrite_and_delete "a value changed after it was read, or was wrong when it was";
    /// Deleting removes nothing.
    IgnoresDelete: delete_tells_whether_there_was_something "after delete: get returned";
    /// Deleting says it removed something.
    DeleteIsAlwaysTrue:
        a_missing_key_is_an_answer_and_no_error "delete is true for a key nobody wrote"
        delete_tells_whether_there_was_something "the second delete of a key is true";
    /// Deleting says it removed nothing.
    DeleteIsAlwaysFalse:
        delete_tells_whether_there_was_something "delete is false for a key that was there"
        an_empty_value_is_a_value "delete is false for an empty value";
    /// What was deleted cannot be written again.
    DeletesForEver: a_deleted_key_can_be_written_again "after being written again: get returned nothing";
    /// Everything exists.
    ExistsIsAlwaysTrue:
        a_missing_key_is_an_answer_and_no_error "exists is true for a key nobody wrote"
        exists_agrees_with_get "exists is true for a key that was deleted";
    /// Nothing exists.
    ExistsIsAlwaysFalse:
        exists_agrees_with_get "exists is false for a key that was written"
        keys_of_every_length_are_taken "exists is false for a key of";
    /// An empty value reads as a miss.
    EmptyIsAMiss:
        an_empty_value_is_a_value "get returned nothing"
        values_of_every_size_read_back "get returned nothing";
    /// White space and zeros at the end of a value are dropped.
    TrimsValues: values_keep_every_byte "of binary value 2";
    /// The latency is not a number.
    HealthIsNoTime: health_names_the_store_and_its_latency "latency_ms is NaN, which is no time";
    /// Two instances on one store see different entries.
    InstancesShareNothing: two_instances_see_each_other "through a second instance: get returned";
    /// Two stores show the same entries.
    IsolatedStoresAreOne: isolated_stores_do_not_see_each_other "in another store: get returned";
    /// Closing again is an error.
    ClosesOnce: closing_twice_is_no_error "close failed";
    /// Closing one instance ends the others.
    ClosesEverybody: closing_one_instance_leaves_the_others_working "get failed (internal): closed";
    /// A request with a trace goes to another key.
    TraceBecomesKey: a_trace_changes_no_answer "of a value written with a trace: get returned";
    /// A power is gone after the first write.
    PowersComeAndGo:
        powers_and_limits_are_the_same_whenever_asked "powers differ between two times they were asked for";
    /// Scans, but says it does not enumerate.
    DeniesItsScan: powers_and_limits_are_the_same_whenever_asked "the power `scan` is offered";
    /// Declares limits nobody can work with.
    LimitsOfNothing: limits_make_sense "max_key is 8";
    /// Values end at 64 KiB.
    CutsLargeValues: values_of_every_size_read_back "of a value of 65537 bytes";
    /// A value beyond the limit loses its end.
    CutsValuesAtTheLimit:
        a_value_beyond_the_limit_is_refused_or_kept_whole "was taken, but read back as";
    /// The longest key it declares is refused.
    RefusesTheLongestKey: keys_of_every_length_are_taken "set failed (too_large): off by one";
    /// Keys end at 250 bytes, although longer ones are declared.
    CutsLongKeys: keys_of_every_length_are_taken "of one of two keys of 251 bytes";
    /// A key beyond the limit loses its end.
    CutsKeysAtTheLimit:
        a_key_beyond_the_limit_is_refused_or_kept_apart "after a longer key that begins with it was written: get returned";
    /// Keys end at the first zero.
    EndsKeysAtZero:
        every_allowed_byte_may_stand_in_a_key "of the test key"
        look_alike_keys_are_kept_apart "of the test key";
    /// Upper and lower case are the same.
    FoldsCase:
        look_alike_keys_are_kept_apart "of the test key"
        every_allowed_byte_may_stand_in_a_key "of the test key";
    /// White space around a key is dropped.
    TrimsKeys: look_alike_keys_are_kept_apart "of the test key";
    /// `../` in a key leads up.
    ResolvesDots:
        hostile_keys_touch_nothing_else "of the canary after hostile keys were written: get returned";
    /// A line in a key is a command of its own.
    RunsLinesOfKeys:
        hostile_keys_touch_nothing_else "of the canary after hostile keys were written: get returned";
    /// An answer is given to whoever asks next.
    GivesAnswersToOthers:
        callers_on_their_own_keys_read_their_own_writes "of a caller's own key"
        callers_on_shared_keys_read_whole_values_of_that_key "a value read while others write is wrong";
    /// A value is visible before it is whole.
    TearsValues:
        callers_on_shared_keys_read_whole_values_of_that_key "a value read while others write is wrong";
    /// An operation blocks the thread while another one is under way.
    BlocksItsThread: operations_interleaved_on_one_thread_all_end "had not ended after";
    /// A write happens in two steps, and a drop leaves it after the first.
    WritesInTwoSteps:
        a_dropped_set_leaves_the_old_or_the_new_value "which is neither the old nor the new value"
        a_dropped_batch_leaves_old_or_new_values "which is neither the old nor the new value"
        a_dropped_set_if_leaves_the_old_or_the_new_value "which is neither the old nor the new value";
    /// A delete empties the value first.
    DeletesInTwoSteps:
        a_dropped_delete_leaves_the_old_value_or_nothing "which is neither the old nor the new value";
    /// The answer to a dropped read goes to the next one.
    KeepsAnswersOfDroppedReads: dropped_reads_harm_no_later_operation "after a read was dropped at";
    /// A dropped operation keeps its permit.
    LeaksPermits: many_dropped_operations_use_nothing_up "set had not returned";
    /// A dropped write keeps everybody else waiting.
    HangsAfterADrop: a_dropped_set_leaves_the_old_or_the_new_value "get had not returned";
    /// A lock request takes the lease for ever and shortens it later.
    LocksInTwoSteps:
        a_dropped_lock_request_blocks_nobody_beyond_its_hold "a lock request that was dropped still holds after its hold";
    /// Never comes back once its deadline has passed.
    HangsPastItsDeadline:
        a_passed_deadline_is_a_timeout_or_an_answer "health had not returned";
    /// Waits for an answer of the store without looking at the clock.
    HangsWhenTimeRunsOut: an_operation_that_races_its_deadline_ends "had not returned";
    /// A passed deadline is called a defect.
    TimeoutIsADefect: a_passed_deadline_is_a_timeout_or_an_answer "an operation ran out of time, but says";
    /// A passed deadline is a miss.
    TimeoutIsAMiss:
        a_passed_deadline_is_a_timeout_or_an_answer "a get that ran out of time returned something else than the value, where it should be a timeout";
    /// Panics where there is no deadline.
    PanicsWithoutDeadline: no_deadline_is_no_obstacle "panicked: every operation has a deadline";
    /// Answers of a batch are one place off.
    RotatesBatchAnswers: answers_come_in_the_order_of_the_keys "answer 0 of 30";
    /// An empty batch is an error.
    EmptyBatchIsAnError: an_empty_batch_has_no_answers "get_many failed (internal)";
    /// A key that stands twice is answered once.
    AnswersEachKeyOnce: a_key_that_stands_twice_is_answered_twice "answers came for a batch of";
    /// Of two items for a key the first one stays.
    FirstItemStays:
        of_two_items_for_a_key_the_last_one_stays "of a key that stood twice in a batch: get returned";
    /// Deleting many stops at the first miss.
    DeleteManyStopsAtAMiss: delete_many_tells_for_each_key "delete_many says false for key";
    /// What a batch wrote only a batch finds.
    BatchWritesElsewhere: batches_and_single_operations_see_each_other "after set_many: get returned";
    /// A batch ends after 512 items, and says it did them all.
    BatchEndsAt512: a_thousand_keys_fit_one_batch "answer 512 of 1000 is nothing";
    /// All items of a batch get the life of the first.
    BatchHasOneLife: each_item_has_a_life_of_its_own "the short-lived item of a batch was still there";
    /// After an item that fails, those that follow are said to be stored.
    FailureHidesTheRest:
        an_item_that_fails_leaves_the_others_valid "of an item that was said to be stored: get returned";
    /// Entries never expire.
    IgnoresLives: an_entry_lives_until_its_life_ends_and_no_longer "an entry was still there";
    /// Lives end at their half.
    EndsLivesEarly: an_entry_lives_until_its_life_ends_and_no_longer "before its life of";
    /// Lives end a second late.
    EndsLivesLate: an_entry_lives_until_its_life_ends_and_no_longer "an entry was still there";
    /// Overwriting keeps the life of the old value.
    KeepsTheFirstLife:
        an_overwritten_entry_has_the_new_life "an entry that was overwritten with a short life was still there";
    /// An entry without an end lives a moment.
    NeverIsAMoment:
        an_entry_without_an_end_outlives_one_with "of an entry without an end, when others have ended: get returned";
    /// Lives are counted in 32 bits.
    WrapsLongLives: the_longest_lives_do_not_overflow "of an entry with a life of 4294967296 ms";
    /// A life beyond a month is refused.
    RefusesLongLives: the_longest_lives_do_not_overflow "set failed (unsupported)";
    /// What has expired still exists.
    ExpiredExists: an_expired_entry_is_absent_to_every_operation "exists is true for an expired entry";
    /// The time left is in seconds.
    TimeLeftInSeconds: the_time_left_is_read_within_its_bounds "ttl is 300 ms";
    /// Touch makes an entry.
    TouchCreates: an_absent_key_has_no_time_left "touch is true for a key that was never written";
    /// Touch says it did what it did not.
    TouchDoesNothing:
        touch_lengthens_a_life "past the end of a life that was renewed: get returned"
        touch_shortens_a_life "an entry that was touched was still there"
        touch_can_take_the_end_away "after touch took the end away";
    /// Touch empties the value.
    TouchLosesTheValue:
        touch_lengthens_a_life "past the end of a life that was renewed: get returned"
        the_time_left_is_read_within_its_bounds "of an entry whose life was renewed: get returned";
    /// Everybody gets the lease.
    LockIsAlwaysGiven:
        a_lease_has_one_holder_at_a_time "a lease is given to two holders"
        exactly_one_of_many_contenders_gets_the_lease "contenders got the lease";
    /// Leases hold within one instance.
    LocksPerInstance:
        a_lease_excludes_holders_on_other_instances "a lease is given to two holders on two instances";
    /// Any token ends a lease.
    UnlockIgnoresTokens:
        a_wrong_token_opens_nothing "wrong token"
        a_late_holder_cannot_end_the_lease_of_the_next "unlock is true for a holder whose lease had ended";
    /// Tokens end at the first zero.
    EndsTokensAtZero: a_wrong_token_opens_nothing "wrong token";
    /// A lease ends only by unlock.
    LeasesNeverEnd: a_lease_ends_by_itself "a lease was still there";
    /// Between looking and taking there is time for another.
    LooksThenLocks: exactly_one_of_many_contenders_gets_the_lease "contenders got the lease";
    /// All keys have one lease.
    OneLeaseForAll: leases_of_different_keys_do_not_meet "the lease of one key blocks that of another";
    /// The token is kept as the value of the key.
    LeaseIsAValue: a_lease_leaves_the_value_of_its_key_alone "of a key whose lease is held: get returned";
    /// Holds are counted in 32 bits.
    WrapsLongHolds: the_longest_hold_does_not_overflow "a lease of 4294967296 ms ends at once";
    /// What is absent has a version.
    NothingHasAVersion: get_version_agrees_with_get "get_version finds a key nobody wrote";
    /// All versions are the same.
    VersionsStandStill:
        a_version_changes_with_the_value "two different values of a key have the same version";
    /// Any version will do.
    SetIfIgnoresVersions: set_if_stores_only_at_the_version_seen "set_if is true for an old version";
    /// `set_if` absent overwrites.
    SetIfAbsentOverwrites:
        set_if_absent_stores_only_where_nothing_is "set_if absent is true for a key that is there";
    /// `set_if` brings back what was deleted.
    SetIfRevives: set_if_after_a_delete_stores_nothing "set_if is true for a deleted key";
    /// `set_if` stores for ever.
    SetIfIgnoresLives: set_if_gives_the_life_it_was_told "an entry stored by set_if was still there";
    /// Between looking and writing there is time for another.
    LooksThenWrites:
        exactly_one_of_many_writers_wins "of 16 writers won"
        no_increment_of_many_writers_is_lost "of a counter that 8 writers raised by 10 each";
    /// The last item of each page is lost.
    ScanLosesItems: a_scan_lists_every_entry "a scan misses 5 of 500 entries";
    /// The first page comes again and again.
    ScanNeverEnds: a_scan_lists_every_entry "a scan does not end";
    /// Pages are as large as the store likes.
    PagesIgnoreTheirSize: pages_hold_no_more_than_was_asked_for "a page holds 10 items";
    /// An item leads to a value after its entry is gone.
    ReadsGhosts:
        an_item_leads_to_its_value_until_it_is_gone "an item still leads to a value after its entry was deleted";
    /// Deleted entries are listed.
    ListsDeletedEntries: deleted_entries_are_listed_no_more "a scan lists 20 keys";
    /// `*` in a prefix stands for anything.
    PrefixIsAPattern:
        a_prefix_is_taken_literally "a scan lists a key that does not begin with its prefix"
        a_prefix_is_cleared_literally "entries began with it";
    /// A cursor that is no text panics.
    PanicsOnCursors: a_made_up_cursor_does_no_harm "panicked: a cursor is text";
    /// Clearing a prefix clears all.
    ClearIgnoresPrefixes: clear_removes_what_begins_with_the_prefix_and_counts_it "entries began with it";
    /// Clearing counts one too many.
    ClearMiscounts:
        clearing_nothing_counts_nothing "clearing a prefix nobody used counts"
        clear_removes_what_begins_with_the_prefix_and_counts_it "entries began with it";
    /// Clearing all clears nothing.
    ClearAllDoesNothing: clearing_without_a_prefix_empties_the_store "clearing a store of";
    /// A watch tells nothing.
    WatchTellsNothing: a_foreign_write_is_told "a foreign write of a new key was not told";
    /// A watch is lost at the first change.
    WatchIsAlwaysLost: a_foreign_write_is_told "a watch was lost although its store is in reach";
    /// A watch begins a little after it said so.
    WatchBeginsLate: a_watch_is_on_when_it_has_begun "right after the watch had begun was not told";
    /// A watch tells writes alone.
    WatchIgnoresDeletes: a_foreign_deletion_is_told "a foreign deletion was not told";
    /// A batch is not told.
    WatchIgnoresBatches: every_way_to_write_is_told "a foreign set_many was not told";
    /// A change is told before it can be read.
    TellsTooEarly: what_was_told_can_be_read "right after a change was told: get returned";
    /// A watch tells what its own instance wrote.
    WatchTellsOwnWrites: own_writes_are_not_told "keys that the instance wrote itself were told to it";
    /// A watch tells everything.
    WatchIgnoresPrefixes:
        changes_outside_the_prefix_are_not_told "keys were told that do not begin with the prefix";
    /// A watch goes on without its guard.
    WatchOutlivesItsGuard: a_watch_that_ended_tells_nothing "a watch tells after its guard was dropped";
    /// The end of one watch ends them all.
    WatchesEndTogether: watches_of_one_instance_do_not_meet "a foreign write was not told";
    /// One change in a hundred is lost.
    WatchSkipsSome: a_thousand_changes_at_once_are_all_told "of 1000 changes were not told";
    /// A watch whose request was dropped half-way goes on.
    DroppedWatchGoesOn: a_dropped_watch_request_tells_nothing "tells of later changes";
    /// A closed instance tells no more, and does not say so.
    ClosedWatchIsSilent:
        changes_after_a_close_are_told_or_the_watch_is_lost "tells neither a change nor its end";
    /// A watch begins although nobody is there to tell anything.
    OutageIsWatched: a_watch_on_a_store_out_of_reach_is_refused "a watch begins although";
    /// A value with a stale window is not there for `get_dated`.
    DatedIsAMiss: a_fresh_value_reads_back_with_its_age "get_dated returned nothing instead of";
    /// What is fresh may be kept for ever.
    FreshForEver:
        a_fresh_value_reads_back_with_its_age "may be kept for"
        entries_without_a_stale_window_have_an_age_too "may be kept for";
    /// Nothing is stale for `get_dated`.
    StaleIsAMiss: a_stale_value_is_handed_out_as_stale "get_dated returned nothing instead of";
    /// What is stale passes for fresh.
    StaleIsFresh: a_stale_value_is_handed_out_as_stale "get_dated says stale = false";
    /// What is stale may be kept.
    StaleMayBeKept: a_stale_value_is_handed_out_as_stale "a stale value may be kept for 1000 ms";
    /// `get` returns what is stale.
    GetReturnsStale: get_returns_nothing_that_is_stale "after the life of an entry with a stale window: get returned";
    /// A stale window never ends.
    StaleForEver: a_stale_window_ends "an entry with life and stale window was still there";
    /// What was deleted is stale.
    DeletedIsStale: what_was_deleted_is_not_stale "get_dated returned something after a stale entry was deleted";
    /// What was stale stays so.
    StaysStale: a_write_over_a_stale_entry_makes_it_fresh "get_dated says stale = true";
    /// Long stale windows are cut to 32 bits, and none is an entry that is gone.
    WrapsLongWindows: the_longest_stale_window_does_not_overflow "get_dated returned nothing instead of";
    /// Any options will do.
    TakesAnyOptions:
        garbage_is_a_configuration_error "opened with garbage"
        an_unknown_option_is_an_error_that_names_it "opened with an unknown option"
        an_option_of_a_wrong_type_is_a_configuration_error "opened with a wrong type for";
    /// Options that do not work panic.
    PanicsOnOptions: garbage_is_a_configuration_error "panicked: called `unwrap`";
    /// During an outage everything is a miss.
    OutageIsAMiss: an_outage_is_an_error_and_never_a_miss "get answers although the store is out of reach";
    /// An outage is called a defect.
    OutageIsADefect:
        an_outage_is_an_error_and_never_a_miss "an outage is neither transient nor a timeout, but: get failed";
    /// A store that is out of reach is healthy.
    OutageIsHealthy: health_tells_of_an_outage "a store that is out of reach calls itself healthy";
    /// Closing waits for the end of the outage.
    CloseWaitsOutAnOutage: an_instance_can_be_closed_during_an_outage "close had not returned";
}

/// A [`Memory`] with one [`Fault`]. As a harness it opens instances that all have it.
///
/// ```
/// use std::sync::Arc;
/// use cachekit_conformance::{Fault, Faulty, run_all};
/// let report = run_all(Arc::new(Faulty::new(Fault::IgnoresDelete)), |case| case.name.contains("delete_tells"));
/// assert_eq!(report.failed, 1);
/// ```
#[derive(Clone)]
pub struct Faulty {
    memory: Memory,
    fault: Fault,
    /// Distinguishes instances.
    instance: u64,
    /// Whether the store is out of reach.
    outage: bool,
    shared: Arc<Shared>,
}

/// What the faults need to remember, for all instances on a store.
#[derive(Default)]
struct Shared {
    instances: AtomicU64,
    writes: AtomicU64,
    permits_taken: AtomicUsize,
    busy: AtomicBool,
    closed: AtomicBool,
    last_answer: Mutex<Option<Bytes>>,
    answers: Mutex<VecDeque<Option<Bytes>>>,
    keys: Mutex<BTreeSet<Vec<u8>>>,
    sinks: Mutex<Vec<Arc<dyn WatchSink>>>,
    guards: Mutex<Vec<WatchGuard>>,
}

/// Nothing that panics holds a lock here.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Faulty {
    /// An empty store with `fault`.
    pub fn new(fault: Fault) -> Self {
        Self::on(Memory::default(), fault)
    }

    fn on(memory: Memory, fault: Fault) -> Self {
        Self { memory, fault, instance: 0, outage: false, shared: Arc::default() }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }
}

impl Harness for Faulty {
    fn open(&self) -> Opened {
        let instance = self.shared.instances.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let memory = if self.has(Fault::InstancesShareNothing) { Memory::default() } else { self.memory.clone() };
        Ok(Arc::new(Self { memory, instance, ..self.clone() }))
    }

    fn open_isolated(&self) -> Option<Opened> {
        Some(if self.has(Fault::IsolatedStoresAreOne) { self.open() } else { Self::new(self.fault).open() })
    }

    fn open_unreachable(&self) -> Option<Opened> {
        let memory = Memory::default();
        memory.set_outage(true);
        Some(Ok(Arc::new(Self { outage: true, ..Self::on(memory, self.fault) })))
    }

    fn open_with_options(&self, json: &[u8]) -> Option<Opened> {
        let memory = match Memory::open_json(json, HostServices::none()) {
            Ok(memory) => memory,
            Err(_) if self.has(Fault::TakesAnyOptions) => Memory::new(MemoryConfig::default()),
            Err(error) if self.has(Fault::PanicsOnOptions) => panic!("called `unwrap` on {error:?}"),
            Err(error) => return Some(Err(error)),
        };
        Some(Ok(Arc::new(Self::on(memory, self.fault)) as Arc<dyn Backend>))
    }

    fn options_schema(&self) -> Option<serde_json::Value> {
        Some(Memory::schema())
    }
}
