//! Mutated packets and captures: a small part of the campaign of `cargo xtask fuzz --packets`.

mod campaign;
mod mutation;

#[test]
fn mutated_packets_are_accounted_for() {
    let mut looks = 0;
    let outcome = campaign::run(200_000, 1, |_| looks += 1);
    assert_eq!((outcome.packets, outcome.captures, looks), (200_000, 100, 100));
    assert!(outcome.found > 500, "most captures still have packets: {outcome:?}");
    assert!(outcome.records > 10_000, "most packets are in flows: {outcome:?}");
    assert!(outcome.unaccounted > 100, "some are in none: {outcome:?}");
}
