//! The inputs that the driver makes.

use panoptes_fuzz::plain::Inputs;

fn seeds() -> Vec<Vec<u8>> {
    vec![b"one".to_vec(), vec![0; 8192], Vec::new()]
}

#[test]
fn seeds_come_first_and_then_changes() {
    let inputs: Vec<_> = Inputs::new(seeds()).take(1000).collect();
    assert!(inputs[0].is_empty());
    assert_eq!(inputs[1..4], seeds());
    let changed = inputs[4..].iter().filter(|input| !seeds().contains(input)).count();
    assert!(changed > 900, "{changed}");
    assert!(inputs.iter().all(|input| input.len() <= 8192));
}

#[test]
fn the_same_seeds_give_the_same_inputs() {
    assert!(Inputs::new(seeds()).take(1000).eq(Inputs::new(seeds()).take(1000)));
}

#[test]
fn no_seeds_are_needed() {
    let inputs: Vec<_> = Inputs::new(Vec::new()).take(1000).collect();
    assert!(inputs.iter().filter(|input| input.len() > 100).count() > 500);
}
