//! Sets of limits, and limits beside them.

use super::*;

#[test]
fn a_preset_stands_for_all_limits_that_are_not_written_beside_it() {
    let of = |text: &str, limits: &[&str]| {
        let limits = limits.iter().map(|limit| (*limit).to_owned()).collect();
        let overrides = Overrides { limits, ..Overrides::default() };
        let (configuration, problems) = read_with(text, &overrides);
        assert_eq!(lines(problems), Vec::<String>::new(), "{text}");
        let systems = configuration.systems.iter().map(|system| &system.settings);
        let all = [&configuration.default].into_iter().chain(systems);
        all.map(|it| [it.limits.processes, it.limits.vmas]).collect::<Vec<_>>()
    };
    let system = |limits: &str| format!("systems: {{a: {{system: file:/a, limits: {limits}}}}}");
    let small = Limits::PRESETS[0].1;
    let (processes, vmas) = (small.processes, small.vmas);
    let standard = Limits::default();
    assert_eq!(of("default: {limits: small}", &[]), [[processes, vmas]]);
    assert_eq!(of("default: {limits: {vmas: 9, preset: small}}", &[]), [[processes, 9]]);
    assert_eq!(of(&system("small"), &[]), [[standard.processes, standard.vmas], [processes, vmas]]);
    // A system has what `default` has, unless it has a preset of its own.
    let text = format!("default: {{limits: small}}\n{}", system("{processes: 7}"));
    assert_eq!(of(&text, &[]), [[processes, vmas], [7, vmas]]);
    let text = format!("default: {{limits: {{vmas: 9}}}}\n{}", system("default"));
    assert_eq!(of(&text, &[]), [[standard.processes, 9], [standard.processes, standard.vmas]]);
    // The command line decides about all systems.
    assert_eq!(of(&text, &["small"]), [[processes, vmas]; 2]);
    assert_eq!(of(&text, &["small,processes=7"]), [[7, vmas]; 2]);
    assert_eq!(of(&system("small"), &["processes=7"]), [[7, standard.vmas], [7, vmas]]);
    let (_, problems) = read_with("default: {limits: smal}", &Overrides::default());
    let [line] = &lines(problems)[..] else { panic!() };
    assert!(line.contains("`smal` is not one of small, medium or default"), "{line}");
}
