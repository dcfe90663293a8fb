//! The table against random uses, with models that are numbers and waiters that are tickets.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use proptest::{collection::vec, prelude::*};

use super::{
    source::{LoadError, MemoryNeed, ModelPlan, Residence},
    table::{Acquired, Answer, Slot, State, Step, Table, Up},
};

/// What may happen to a registry of a few models.
#[derive(Debug, Clone)]
enum Event {
    /// A request for a model.
    Use(usize),
    /// The end of the oldest running request of a model.
    Finish(usize),
    Load(usize),
    Unload(usize),
    Keep(usize, Option<u64>),
    /// Time passes.
    Wait(u64),
    /// The manager takes its next step; a load or a plan fails if so said.
    Step(bool),
}

fn event(models: usize) -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..models).prop_map(Event::Use),
        3 => (0..models).prop_map(Event::Finish),
        1 => (0..models).prop_map(Event::Load),
        1 => (0..models).prop_map(Event::Unload),
        1 => (0..models, prop::option::of(0..30u64)).prop_map(|(model, keep)| Event::Keep(model, keep)),
        2 => (0..40u64).prop_map(Event::Wait),
        8 => prop::bool::weighted(0.15).prop_map(Event::Step),
    ]
}

fn plan(bytes: u64) -> ModelPlan {
    ModelPlan { memory: MemoryNeed { weights: bytes, ..MemoryNeed::default() }, ..ModelPlan::default() }
}

/// A table, what holds of it, and a clock.
struct World {
    table: Table<usize, u64>,
    sizes: Vec<u64>,
    budget: u64,
    now: Instant,
    next_ticket: u64,
    /// Requests that wait for a model.
    waiting: BTreeSet<u64>,
    /// Running requests by model.
    running: BTreeMap<usize, usize>,
    /// Models whose load has begun and not yet their unload, and so hold memory.
    held: BTreeSet<usize>,
}

impl World {
    fn new(models: &[(u64, bool)], budget: u64) -> Self {
        let now = Instant::now();
        let slot = |(at, (_, pin)): (usize, &(u64, bool))| {
            let residence =
                Residence { at_start: false, pin: *pin, idle_unload: Some(Duration::from_secs(20)) };
            Slot::new(at.to_string(), residence, None, now)
        };
        Self {
            table: Table::new(models.iter().enumerate().map(slot).collect(), Some(budget)),
            sizes: models.iter().map(|(bytes, _)| *bytes).collect(),
            budget,
            now,
            next_ticket: 0,
            waiting: BTreeSet::new(),
            running: BTreeMap::new(),
            held: BTreeSet::new(),
        }
    }

    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Use(model) => self.acquire(model),
            Event::Finish(model) => {
                if let Some(count) = self.running.get_mut(&model).filter(|count| **count > 0) {
                    *count -= 1;
                    self.table.release(model, self.now);
                }
            }
            Event::Load(model) => self.table.load(model),
            Event::Unload(model) => {
                // It may refuse; then nothing has changed.
                let _ = self.table.unload(model);
            }
            Event::Keep(model, seconds) => self.table.keep(model, seconds.map(Duration::from_secs)),
            Event::Wait(seconds) => self.now += Duration::from_secs(seconds),
            Event::Step(fails) => {
                self.step(fails);
            }
        }
        self.deliver();
        self.check();
    }

    fn acquire(&mut self, model: usize) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        match self.table.acquire(model, self.now, || ticket) {
            Acquired::Ready(given) => {
                assert_eq!(given, model);
                *self.running.entry(model).or_default() += 1;
            }
            Acquired::Waiting => assert!(self.waiting.insert(ticket)),
            Acquired::Refused(error) => assert!(!error.message.is_empty()),
        }
    }

    /// Does what the table asks for; whether there was anything.
    fn step(&mut self, fails: bool) -> bool {
        match self.table.next(self.now) {
            Step::Plan(model) => {
                let found = if fails { Err(LoadError("gone".into())) } else { Ok(plan(self.sizes[model])) };
                self.table.planned(model, found, self.now);
            }
            Step::Load(model, planned) => {
                assert_eq!(planned, plan(self.sizes[model]));
                assert!(self.held.insert(model), "{model} is loaded twice");
                self.check();
                let up = Up { model, stop: Box::new(|| true) };
                let loaded = if fails { Err(LoadError("broken".into())) } else { Ok(up) };
                if fails {
                    self.held.remove(&model);
                }
                assert!(self.table.loaded(model, loaded, self.now).is_none());
            }
            Step::Unload(model, up) => {
                assert_eq!(up.model, model);
                assert_eq!(self.running.get(&model).copied().unwrap_or_default(), 0, "{model} was in use");
                self.check();
                assert!(self.held.remove(&model));
                self.table.unloaded(model);
            }
            Step::Sleep(until) => {
                assert!(until.is_none_or(|until| until > self.now), "a sleep that is over");
                return false;
            }
            Step::End => panic!("nobody has closed it"),
        }
        true
    }

    fn deliver(&mut self) {
        for (ticket, answer) in self.table.take_answers() {
            assert!(self.waiting.remove(&ticket), "{ticket} is answered twice");
            if let Answer::Ready(index, model) = answer {
                assert_eq!(index, model);
                *self.running.entry(model).or_default() += 1;
            }
        }
    }

    fn check(&self) {
        let held: u64 = self.held.iter().map(|model| self.sizes[*model]).sum();
        assert!(held <= self.budget, "{held} of {}", self.budget);
        for (model, slot) in self.table.slots.iter().enumerate() {
            assert_eq!(slot.leases, self.running.get(&model).copied().unwrap_or_default(), "{model}");
            let there = matches!(slot.state, State::Ready(_) | State::Draining(_));
            assert!(there || slot.leases == 0, "{model} is used and isn't there");
        }
    }

    /// Ends all requests and lets the manager work until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let worked = self.step(false);
            self.deliver();
            self.check();
            let busy: Vec<usize> = self.running.iter().filter(|(_, n)| **n > 0).map(|(m, _)| *m).collect();
            for model in &busy {
                self.apply(&Event::Finish(*model));
            }
            if !worked && busy.is_empty() {
                return;
            }
        }
        panic!("it never comes to rest");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Memory stays within the budget, no model goes while it is used, and every request gets an answer.
    #[test]
    fn budget_leases_and_answers_hold(
        models in vec((1u64..60, prop::bool::weighted(0.2)), 1..5),
        budget in 20u64..100,
        events in vec(event(4), 1..120),
    ) {
        let mut world = World::new(&models, budget);
        for event in &events {
            let known = match event {
                Event::Use(m) | Event::Finish(m) | Event::Load(m) | Event::Unload(m) | Event::Keep(m, _) => *m < models.len(),
                Event::Wait(_) | Event::Step(_) => true,
            };
            if known {
                world.apply(event);
            }
        }
        world.settle();
        prop_assert!(world.waiting.is_empty(), "{:?} wait for ever", world.waiting);
    }
}

/// A table of models without pins and idle times.
fn table(sizes: &[u64], budget: u64) -> Table<usize, u64> {
    let now = Instant::now();
    let slot =
        |(at, bytes): (usize, &u64)| Slot::new(at.to_string(), Residence::default(), Some(plan(*bytes)), now);
    Table::new(sizes.iter().enumerate().map(slot).collect(), Some(budget))
}

/// Lets the manager work until it sleeps; says what it did.
fn work(table: &mut Table<usize, u64>, now: Instant) -> Vec<String> {
    let mut done = Vec::new();
    loop {
        match table.next(now) {
            Step::Plan(model) => panic!("{model} is planned"),
            Step::Load(model, _) => {
                done.push(format!("load {model}"));
                table.loaded(model, Ok(Up { model, stop: Box::new(|| true) }), now);
            }
            Step::Unload(model, _) => {
                done.push(format!("unload {model}"));
                table.unloaded(model);
            }
            Step::Sleep(_) | Step::End => return done,
        }
    }
}

#[test]
fn the_least_recently_used_idle_model_makes_room() {
    let mut table = table(&[40, 40, 40], 100);
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert!(matches!(table.acquire(0, at(1), || 0), Acquired::Waiting));
    assert!(matches!(table.acquire(1, at(1), || 1), Acquired::Waiting));
    assert_eq!(work(&mut table, at(1)), ["load 0", "load 1"]);
    // 1 was used last, and 0 is in use: 1 goes all the same, because it is idle.
    table.release(1, at(9));
    assert!(matches!(table.acquire(2, at(10), || 2), Acquired::Waiting));
    assert_eq!(work(&mut table, at(10)), ["unload 1", "load 2"]);
    // All in use: 0 takes no more requests, and goes when its last one is done.
    assert!(matches!(table.acquire(1, at(11), || 3), Acquired::Waiting));
    assert!(work(&mut table, at(11)).is_empty());
    assert!(matches!(table.acquire(0, at(12), || 4), Acquired::Waiting));
    table.release(0, at(13));
    assert_eq!(work(&mut table, at(13)), ["unload 0", "load 1"]);
    // Whoever came to 0 meanwhile waits for 2.
    table.release(2, at(14));
    assert_eq!(work(&mut table, at(14)), ["unload 2", "load 0"]);
}

#[test]
fn who_waits_for_a_busy_model_holds_back_nobody_who_fits_beside() {
    let mut table = table(&[60, 70, 20, 50], 100);
    let now = Instant::now();
    assert!(matches!(table.acquire(0, now, || 0), Acquired::Waiting));
    assert_eq!(work(&mut table, now), ["load 0"]);
    // 1 has to wait for 0's request. 3 would fit now (60 + 40), but not beside 1; 2 fits beside both.
    table.slots[3].plan = Some(plan(40));
    for model in [1, 3, 2] {
        assert!(matches!(table.acquire(model, now, || 9), Acquired::Waiting));
    }
    assert_eq!(work(&mut table, now), ["load 2"]);
    table.release(0, now);
    assert_eq!(work(&mut table, now), ["unload 0", "load 1"]);
}

#[test]
fn waiters_share_one_load_and_one_failure() {
    let mut table = table(&[10], 100);
    let now = Instant::now();
    for ticket in 0..3 {
        assert!(matches!(table.acquire(0, now, || ticket), Acquired::Waiting));
    }
    assert!(matches!(table.next(now), Step::Load(0, _)));
    assert!(table.loaded(0, Err(LoadError("a broken file".into())), now).is_none());
    let answers = table.take_answers();
    assert_eq!(answers.len(), 3);
    for (_, answer) in answers {
        let Answer::Refused(error) = answer else { panic!("there is a model") };
        assert_eq!(error.message, "The model `0` can't be loaded: a broken file.");
        assert_eq!((error.kind.status(), error.retry_after), (503, Some(1)));
    }
    // It is left alone for a second; then its next use tries again, and a second failure makes a longer pause.
    assert!(matches!(table.acquire(0, now, || 9), Acquired::Refused(_)));
    let later = now + Duration::from_secs(2);
    assert!(matches!(table.acquire(0, later, || 9), Acquired::Waiting));
    assert!(matches!(table.next(later), Step::Plan(0)), "its files may have changed");
    table.planned(0, Err(LoadError("gone".into())), later);
    let [(9, Answer::Refused(error))] = &table.take_answers()[..] else { panic!("no answer") };
    assert_eq!(error.retry_after, Some(2));
    // An operator need not wait.
    table.load(0);
    assert!(matches!(table.next(later), Step::Plan(0)));
}

#[test]
fn what_never_fits_is_told_with_figures() {
    let mib = 1 << 20;
    let mut table = table(&[300 * mib, 80 * mib, 50 * mib], 100 * mib);
    let now = Instant::now();
    assert!(matches!(table.acquire(0, now, || 0), Acquired::Waiting));
    assert!(work(&mut table, now).is_empty());
    let [(0, Answer::Refused(error))] = &table.take_answers()[..] else { panic!("no answer") };
    assert_eq!(error.kind.status(), 400);
    assert!(error.message.contains("needs 300.0 MiB") && error.message.contains("100.0 MiB"), "{error}");
    table.slots[1].residence.pin = true;
    table.load(1);
    assert_eq!(work(&mut table, now), ["load 1"]);
    assert!(matches!(table.acquire(2, now, || 2), Acquired::Waiting));
    assert!(work(&mut table, now).is_empty());
    let [(2, Answer::Refused(error))] = &table.take_answers()[..] else { panic!("no answer") };
    assert_eq!(error.kind.status(), 503);
    assert!(error.message.contains("pinned models leave 20.0 MiB"), "{error}");
}

#[test]
fn closing_refuses_whoever_waits_and_hands_a_late_model_back() {
    let mut table = table(&[10, 10], 100);
    let now = Instant::now();
    assert!(matches!(table.acquire(0, now, || 0), Acquired::Waiting));
    assert!(matches!(table.next(now), Step::Load(0, _)));
    table.close();
    let [(0, Answer::Refused(error))] = &table.take_answers()[..] else { panic!("no answer") };
    assert_eq!(error.kind.status(), 503);
    assert!(table.loaded(0, Ok(Up { model: 0, stop: Box::new(|| true) }), now).is_some());
    assert!(matches!(table.next(now), Step::End));
    assert!(matches!(table.acquire(1, now, || 1), Acquired::Refused(_)));
}

#[test]
fn an_idle_model_goes_after_its_time_and_a_pinned_one_never() {
    let mut table = table(&[10, 10], 100);
    table.slots[0].residence.idle_unload = Some(Duration::from_secs(60));
    table.slots[1].residence =
        Residence { pin: true, idle_unload: Some(Duration::from_secs(1)), at_start: false };
    let start = Instant::now();
    table.load(0);
    table.load(1);
    assert_eq!(work(&mut table, start), ["load 0", "load 1"]);
    let Step::Sleep(Some(until)) = table.next(start) else { panic!("there is something to do") };
    assert_eq!(until, start + Duration::from_secs(60));
    assert!(matches!(table.acquire(0, start, || 0), Acquired::Ready(0)));
    let late = start + Duration::from_secs(100);
    assert!(work(&mut table, late).is_empty(), "it is in use");
    table.release(0, late);
    assert!(work(&mut table, late + Duration::from_secs(59)).is_empty());
    assert_eq!(work(&mut table, late + Duration::from_secs(60)), ["unload 0"]);
    // A client may want it gone at once, or kept.
    table.load(0);
    work(&mut table, late);
    table.keep(0, None);
    assert!(work(&mut table, late + Duration::from_secs(9999)).is_empty());
    table.keep(0, Some(Duration::ZERO));
    assert_eq!(work(&mut table, late), ["unload 0"]);
    table.keep(1, Some(Duration::ZERO));
    assert!(work(&mut table, late).is_empty());
}
