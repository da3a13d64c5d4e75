//! Floods, restarts, gaps and clocks.

use super::super::*;
use super::traffic::*;

const SHOP: &str = "shop";

fn shop() -> Owner {
    Owner::Service(SHOP.to_owned())
}

/// What was learned in so many days of a service, and the service.
fn taught(days: u64) -> (Learned, Service) {
    let mut learned = Learned::new(Sensitivity::Medium, DEFAULT_SPAN);
    let mut service = Service::new(5, 20.0, 0.6);
    for second in (0..days * DAY).step_by(TICK as usize) {
        let counts = service.tick(second, &[]);
        let found = learned.add(&shop(), span(second, TICK), &counts);
        assert!(found.is_empty(), "second {second}: {found:?}");
    }
    (learned, service)
}

fn span(second: u64, length: u64) -> (Time, Time) {
    (
        (START + second) * SECOND,
        (START + second + length) * SECOND,
    )
}

/// Ticks of a quarter of a second, as the daemon has them, with so many connections and packets a second.
fn flood(learned: &mut Learned, second: u64, rate: f64) -> Option<f64> {
    let begin = (START + second) * SECOND;
    let tick = SECOND / 4;
    for index in 0..40 {
        let counts = [rate * 3.0, rate * 3.0 * 60.0, rate, 0.0, rate].map(|rate| Some(rate / 4.0));
        let span = (begin + index * tick, begin + (index + 1) * tick);
        let found = learned.add(&shop(), span, &counts);
        if found
            .iter()
            .any(|found| found.departure.side == Side::Above)
        {
            return Some((index + 1) as f64 / 4.0);
        }
    }
    None
}

#[test]
fn a_flood_of_many_times_the_usual_is_seen_within_a_second() {
    let (mut learned, _) = taught(9);
    let seconds = flood(&mut learned, 9 * DAY, 3_000.0);
    assert!(seconds.is_some_and(|seconds| seconds <= 1.0), "{seconds:?}");
}

#[test]
fn nothing_is_said_during_the_warm_up() {
    let (mut learned, _) = taught(0);
    assert_eq!(flood(&mut learned, 0, 100_000.0), None);
}

#[test]
fn an_attack_ends_with_the_attack_and_the_next_one_is_seen_too() {
    let (mut learned, mut service) = taught(9);
    let mut second = 9 * DAY;
    for _ in 0..2 {
        assert!(flood(&mut learned, second, 5_000.0).is_some());
        second += 10;
        let mut quiet = 0;
        for _ in 0..360 {
            let counts = service.tick(second, &[]);
            let found = learned.add(&shop(), span(second, TICK), &counts);
            quiet = if found.is_empty() { quiet + 1 } else { 0 };
            second += TICK;
        }
        assert!(quiet > 300, "quiet for only {quiet} ticks of 360");
    }
}

#[test]
fn what_is_known_goes_through_a_restart() {
    let (learned, mut service) = taught(9);
    let kept = serde_json::to_string(&learned.kept()).unwrap();
    let mut after = Learned::new(Sensitivity::Medium, DEFAULT_SPAN);
    after.restore(serde_json::from_str(&kept).unwrap()).unwrap();
    for second in (9 * DAY..9 * DAY + HOUR).step_by(TICK as usize) {
        let counts = service.tick(second, &[]);
        let found = after.add(&shop(), span(second, TICK), &counts);
        assert!(found.is_empty(), "{found:?}");
    }
    assert!(flood(&mut after, 9 * DAY + HOUR, 3_000.0).is_some());
    let outage = (9 * DAY + 2 * HOUR..9 * DAY + 3 * HOUR).step_by(TICK as usize);
    let nothing = [Some(0.0); 5];
    let mut found = outage.map(|second| after.add(&shop(), span(second, TICK), &nothing));
    assert!(found.any(|found| !found.is_empty()));
    let unknown = Kept {
        span: DEFAULT_SPAN,
        version: VERSION + 1,
        owners: Vec::new(),
    };
    assert!(after.restore(unknown).is_err());
}

#[test]
fn a_gap_is_no_loss_and_what_is_counted_over_it_no_spike() {
    let (mut learned, mut service) = taught(9);
    let mut second = 9 * DAY + 11 * HOUR;
    let missed = [Some(1e9); 5];
    assert!(
        learned
            .add(&shop(), span(9 * DAY, 11 * HOUR), &missed)
            .is_empty()
    );
    for _ in 0..120 {
        let counts = service.tick(second, &[]);
        let found = learned.add(&shop(), span(second, TICK), &counts);
        assert!(found.is_empty(), "{found:?}");
        second += TICK;
    }
    learned.forget_lately();
    let counts = service.tick(second, &[]);
    assert!(learned.add(&shop(), span(second, TICK), &counts).is_empty());
}

#[test]
fn at_most_so_many_services_are_learned() {
    let mut learned = Learned::new(Sensitivity::Medium, DEFAULT_SPAN);
    for index in 0..2 * MOST_SERVICES {
        let owner = Owner::Service(format!("{index}"));
        learned.add(&owner, span(0, TICK), &[Some(1.0); 5]);
    }
    assert_eq!(learned.kept().owners.len(), MOST_SERVICES + 1);
    learned.retain(|name| name == "7");
    assert_eq!(learned.kept().owners.len(), 1);
}
