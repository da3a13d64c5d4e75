use super::*;

const STEP: u64 = 300;
const START: u64 = 1_800_000_000;

/// What every series here is disturbed by: numbers between -1 and 1, always the same ones.
fn noise(row: u64) -> f64 {
    let mut state = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
    state ^= state >> 31;
    state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state ^= state >> 29;
    (state % 20_001) as f64 / 10_000.0 - 1.0
}

/// Orders by the hour: few at night, many by day.
fn shop(row: u64) -> f64 {
    let hour = (row * STEP % 86_400) as f64 / HOUR;
    let busy = (-(hour - 14.0).powi(2) / 20.0).exp();
    (50.0 + 400.0 * busy) * (1.0 + 0.1 * noise(row))
}

fn moment(row: u64) -> Time {
    (START + row * STEP) * 1_000_000_000
}

fn days(days: u64) -> u64 {
    days * 86_400 / STEP
}

/// A baseline that has seen `rows` of the shop.
fn taught(rows: u64) -> Baseline {
    let mut baseline = Baseline::default();
    for row in 0..rows {
        baseline.observe(moment(row), shop(row));
    }
    baseline
}

#[test]
fn ordinary_days_stay_ordinary_and_in_the_expected_range() {
    let mut baseline = taught(days(7));
    let (mut strange, mut outside) = (0, 0);
    for row in days(7)..days(21) {
        let judgement = baseline.observe(moment(row), shop(row));
        strange += u32::from(judgement.score >= 0.5);
        let expected = judgement.expected;
        outside += u32::from(!(expected.low..=expected.high).contains(&shop(row)));
    }
    assert_eq!(strange, 0);
    assert!(outside < 40, "{outside} of 4032 rows were not expected");
}

#[test]
fn a_spike_a_loss_and_a_missing_day_stand_out() {
    for (hour, what, value) in [
        (14, "spike", 2_000.0),
        (14, "loss", 0.0),
        (3, "spike at night", 400.0),
    ] {
        let mut baseline = taught(days(14));
        let begin = days(14) + hour * 12;
        for row in days(14)..begin {
            baseline.observe(moment(row), shop(row));
        }
        let scores = (begin..begin + 4).map(|row| baseline.observe(moment(row), value).score);
        let highest = scores.fold(0.0, f64::max);
        assert!(highest >= 0.5, "{what}: {highest}");
    }
}

#[test]
fn an_attack_of_hours_is_not_taken_for_ordinary() {
    let mut baseline = taught(days(14));
    let noon = days(14) + 12 * 12;
    let before = baseline.expected(moment(noon + days(1)), 0.0);
    for row in days(14)..days(14) + 6 * 12 {
        baseline.observe(moment(row), 50_000.0);
    }
    let after = baseline.expected(moment(noon + days(1)), 0.0);
    assert!(
        after.middle < 2.0 * before.middle,
        "{before:?} became {after:?}"
    );
    assert!(after.high < 20_000.0, "{before:?} became {after:?}");
}

#[test]
fn a_level_that_stays_is_learned_after_a_day() {
    let mut baseline = taught(days(14));
    let moved = |row| shop(row) + 5_000.0;
    for row in days(14)..days(17) {
        baseline.observe(moment(row), moved(row));
    }
    let row = days(17) + 100;
    let expected = baseline.expected(moment(row), 0.0);
    assert!((expected.middle - moved(row)).abs() < 500.0, "{expected:?}");
}

#[test]
fn what_was_kept_goes_on_as_if_there_had_been_no_restart() {
    let mut baseline = taught(days(5));
    let kept = serde_json::to_string(&baseline).unwrap();
    let mut read: Baseline = serde_json::from_str(&kept).unwrap();
    for row in days(5)..days(6) {
        let value = shop(row) * if row % 50 == 0 { 9.0 } else { 1.0 };
        let [one, other] =
            [&mut baseline, &mut read].map(|baseline| baseline.observe(moment(row), value));
        assert!((one.score - other.score).abs() < 1e-6, "{one:?} {other:?}");
        assert!((one.expected.high - other.expected.high).abs() < 1e-6);
    }
}

#[test]
fn a_kept_baseline_that_was_tampered_with_is_refused() {
    let kept = serde_json::to_value(taught(200)).unwrap();
    let tamper = |path: &str, value: serde_json::Value| {
        let mut kept = kept.clone();
        *kept.pointer_mut(path).unwrap() = value;
        serde_json::from_value::<Baseline>(kept)
    };
    assert!(tamper("/rows", 7.into()).is_ok());
    for (path, value) in [
        ("/version", 99.into()),
        ("/season/day", serde_json::json!([])),
        ("/season/level", serde_json::Value::Null),
        ("/signals/tails", serde_json::json!([])),
        ("/signals/tails/0/bins", serde_json::json!([1.0])),
        ("/signals/tails/0/threshold", 0.0.into()),
    ] {
        assert!(tamper(path, value).is_err(), "{path}");
    }
}

#[test]
fn clocks_that_jump_and_values_that_are_no_numbers_do_no_harm() {
    let mut baseline = taught(days(3));
    let hostile = [f64::NAN, f64::INFINITY, -1e300, 1e300, 0.0, 5.0];
    for (index, time) in [0, Time::MAX, 1, moment(days(3)), 7, Time::MAX / 2]
        .into_iter()
        .cycle()
        .take(600)
        .enumerate()
    {
        let judgement = baseline.observe(time, hostile[index % 5 + index % 2]);
        assert!((0.0..=1.0).contains(&judgement.score), "{judgement:?}");
        assert!(judgement.expected.low <= judgement.expected.high);
    }
    serde_json::from_str::<Baseline>(&serde_json::to_string(&baseline).unwrap()).unwrap();
}

#[test]
fn the_sampling_interval_does_not_matter() {
    for step in [10_u64, 60, 3_600] {
        let mut baseline = Baseline::default();
        let value = |row: u64| {
            let hour = (row * step % 86_400) as f64 / HOUR;
            100.0 + 60.0 * (hour / 24.0 * std::f64::consts::TAU).sin() + 3.0 * noise(row)
        };
        let at = |row: u64| (START + row * step) * 1_000_000_000;
        let rows = 14 * 86_400 / step;
        for row in 0..rows {
            baseline.observe(at(row), value(row));
        }
        for row in rows..rows + 86_400 / step {
            let expected = baseline.expected(at(row), 0.0);
            let off = (expected.middle - value(row)).abs();
            assert!(off < 30.0, "every {step} s: {off} off at row {row}");
            baseline.observe(at(row), value(row));
        }
    }
}
