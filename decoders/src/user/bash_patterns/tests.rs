//! Patterns as bash matches them.

use proptest::prelude::*;

use super::*;

fn matches(pattern: &[u8], line: &[u8], is_extended: bool) -> bool {
    BashPatternMatch { pattern, line, is_extended, steps: STEPS_MAX }.matches()
}

/// A pattern, as a tree.
#[derive(Clone, Debug)]
enum Node {
    Any,
    One,
    Literal(u8),
    Escaped(u8),
    Set(bool, std::vec::Vec<(u8, u8)>),
    List(u8, std::vec::Vec<std::vec::Vec<Node>>),
}

type Nodes = std::vec::Vec<Node>;
type Bytes = std::vec::Vec<u8>;

fn text_of(nodes: &[Node], out: &mut Bytes) {
    for node in nodes {
        match node {
            Node::Any => out.push(b'*'),
            Node::One => out.push(b'?'),
            Node::Literal(byte) => out.push(*byte),
            Node::Escaped(byte) => out.extend([b'\\', *byte]),
            Node::Set(is_not, ranges) => {
                out.extend_from_slice(if *is_not { b"[!" } else { b"[" });
                for (first, last) in ranges {
                    out.extend([*first, b'-', *last]);
                }
                out.push(b']');
            }
            Node::List(kind, parts) => {
                out.extend([*kind, b'(']);
                for (at, part) in parts.iter().enumerate() {
                    out.extend((at > 0).then_some(b'|'));
                    text_of(part, out);
                }
                out.push(b')');
            }
        }
    }
}

/// The definition: whether a pattern matches a line, by all ways to divide the line.
fn model(nodes: &[Node], line: &[u8]) -> bool {
    let Some((node, rest)) = nodes.split_first() else { return line.is_empty() };
    (0..=line.len()).any(|at| is_one(node, &line[..at]) && model(rest, &line[at..]))
}

fn is_one(node: &Node, line: &[u8]) -> bool {
    let one = (line.len() == 1).then(|| line[0]);
    match node {
        Node::Any => true,
        Node::One => one.is_some(),
        Node::Literal(byte) | Node::Escaped(byte) => one == Some(*byte),
        Node::Set(is_not, ranges) => one.is_some_and(|own| {
            ranges.iter().any(|(first, last)| (*first..=*last).contains(&own)) != *is_not
        }),
        Node::List(kind, parts) => {
            let is_part = |line: &[u8]| parts.iter().any(|part| model(part, line));
            match kind {
                b'@' => is_part(line),
                b'?' => line.is_empty() || is_part(line),
                b'!' => !is_part(line),
                b'*' => line.is_empty() || is_repeated(&is_part, line),
                _ => is_repeated(&is_part, line),
            }
        }
    }
}

fn is_repeated(is_part: &dyn Fn(&[u8]) -> bool, line: &[u8]) -> bool {
    is_part(line)
        || (1..line.len()).any(|at| is_part(&line[..at]) && is_repeated(is_part, &line[at..]))
}

fn nodes() -> impl Strategy<Value = Nodes> {
    let byte = || prop::sample::select(b"abc".as_slice());
    let escaped = || prop::sample::select(b"ab*?[".as_slice());
    let ranges = prop::collection::vec((byte(), byte()), 1..3);
    let leaf = prop_oneof![
        Just(Node::Any),
        Just(Node::One),
        byte().prop_map(Node::Literal),
        escaped().prop_map(Node::Escaped),
        (any::<bool>(), ranges).prop_map(|(is_not, ranges)| Node::Set(is_not, ranges)),
    ];
    let node = leaf.prop_recursive(2, 8, 3, |inner| {
        let parts = prop::collection::vec(prop::collection::vec(inner, 0..3), 1..3);
        let kind = prop::sample::select(b"?*+@!".as_slice());
        (kind, parts).prop_map(|(kind, parts)| Node::List(kind, parts))
    });
    prop::collection::vec(node, 0..4)
}

proptest! {
    #[test]
    fn patterns_match_by_their_definition(nodes in nodes(), line in "[abc*?(]{0,6}") {
        let mut pattern = Bytes::new();
        text_of(&nodes, &mut pattern);
        let expected = model(&nodes, line.as_bytes());
        prop_assert_eq!(matches(&pattern, line.as_bytes(), true), expected);
    }

    #[test]
    fn any_bytes_end_soon(pattern in prop::collection::vec(any::<u8>(), 0..64), ext: bool) {
        let _ = ignores_everything(&pattern, ext);
        let _ = matches(&pattern, b"cat /etc/shadow", ext);
    }
}

/// Each row was tried in bash 5.2: `shopt -s extglob; [[ $line == $pattern ]]`.
#[test]
fn single_patterns_match_as_in_bash() {
    for (pattern, line, is_match) in [
        ("[]a]x", "]x", true),
        ("[!]a]x", "bx", true),
        ("[!]a]x", "]x", false),
        ("[^a]", "b", true),
        ("[a-]", "-", true),
        ("[c-a]", "b", false),
        ("[a", "[a", true),
        ("[[:alpha:]_]*", "_x", true),
        ("[[:alpha:][:digit:]]", "7", true),
        ("[[:wrong:]]", "w", false),
        ("[[=a=]b]", "a", true),
        ("[[.a.]-c]", "b", true),
        ("[\\]]", "]", true),
        ("a\\", "a\\", true),
        ("\\a", "a", true),
        ("\\*", "x", false),
        ("@(a|[|])", "|", true),
        ("+(*)", "anything", true),
        ("!(exit)", "exit", false),
        ("!(exit)", "exits", true),
        ("!(a)b", "ab", false),
        ("!(a)b", "bb", true),
        ("*(ab|c)d", "abcabd", true),
        ("?(a)b", "b", true),
        ("@(a", "@(a", true),
        ("@(a", "a", false),
        ("@()x", "x", true),
    ] {
        let own = matches(pattern.as_bytes(), line.as_bytes(), true);
        assert_eq!(own, is_match, "{pattern} {line}");
    }
    for ill_formed in ["*?(", "**(", "*?*(a", "**(a|b", "a*?("] {
        assert!(matches(ill_formed.as_bytes(), b"anything", true), "{ill_formed}");
    }
    for ill_formed in ["?(", "*@(", "\\**(", "@([)"] {
        assert!(!matches(ill_formed.as_bytes(), b"anything", true), "{ill_formed}");
    }
    assert!(!matches(b"+(*)", b"anything", false));
    assert!(matches(b"+(*)", b"+(x)", false));
}

#[test]
fn a_list_is_split_as_bash_splits_it() {
    let split = |list: &'static str, is_extended| {
        let patterns = BashPatternList { rest: list.as_bytes(), is_extended };
        patterns.map(|it| core::str::from_utf8(it).unwrap()).collect::<std::vec::Vec<_>>()
    };
    assert_eq!(split("ls:cd:exit", false), ["ls", "cd", "exit"]);
    assert_eq!(split("[[:space:]]*:ls", false), ["[[:space:]]*", "ls"]);
    assert_eq!(split("a\\:b:c", false), ["a\\:b", "c"]);
    assert_eq!(split("'a:b':c", false), ["'a:b'", "c"]);
    assert_eq!(split("@(a:b):c", true), ["@(a:b)", "c"]);
    assert_eq!(split("@(a:b):c", false), ["@(a", "b)", "c"]);
    assert_eq!(split("a::b:", false), ["a", "", "b"]);
    assert_eq!(split("", false), [] as [&str; 0]);
    assert_eq!(split("[a:b", false), ["[a:b"]);
}

#[test]
fn patterns_that_keep_nearly_nothing_are_recognized() {
    for all in [
        "*",
        "ls:*",
        "**",
        "?*",
        "*?",
        "&:*",
        "*?*",
        "[[:print:]]*",
        "[!x]*",
        "[^ ]*",
        "????*",
        "*[a-z]*",
        "[a-z]*",
        "[[:lower:]]*:[[:upper:]]*",
        "\\**:[a-m]*:[n-z]*",
        "* *",
        "[a-z/.(X]*",
        "?:??:???*",
        "*[[:alnum:]]*",
    ] {
        assert!(ignores_everything(all.as_bytes(), false), "{all:?}");
    }
    for all in
        ["+(?)", "!(exit)", "@(*)", "*(*)", "ls:?(*)", "!(&)", "!(ls|cd*)", "+([!x])*", "*?("]
    {
        assert!(ignores_everything(all.as_bytes(), true), "{all:?}");
        assert!(!ignores_everything(all.as_bytes(), false), "{all:?}");
    }
}

/// A costly list could hide a pattern behind it, and bash takes several stars as one.
#[test]
fn costly_patterns_hide_nothing() {
    let nested = std::format!("{}*{}:*", "!(*".repeat(15), ")".repeat(15));
    for all in ["*".repeat(100), "*?".repeat(200) + ":*", nested] {
        assert!(ignores_everything(all.as_bytes(), true), "{all:?}");
    }
    let long = (0..500).map(|number| std::format!("cmd{number}")).collect::<std::vec::Vec<_>>();
    assert!(!ignores_everything(long.join(":").as_bytes(), true));
    assert!(!ignores_everything(long.join("*:").as_bytes(), false));
}

#[test]
fn usual_patterns_are_harmless() {
    for some in [
        "",
        "ls",
        "ls:cd:exit",
        "ls*:cd*",
        "[ \\t]*",
        "[ \t]*",
        "&",
        "&:[ \t]*:exit",
        "?",
        " *",
        "[[:space:]]*",
        "&:[bf]g:exit:pwd:clear",
        "?:??:???",
        "*s*",
        "* --help",
        "[a-m]*",
        "ls:ll:la:cd *:cd -:pwd:exit:date:* --help:man *:history*:clear:top:htop",
        "\\*",
        "'*'",
        "*password*:*secret*:*token*",
        "ls*:ll*:cd*:cat*:echo*:vi*:man*:less*:tail*:head*:ps*",
    ] {
        assert!(!ignores_everything(some.as_bytes(), false), "{some:?}");
        assert!(!ignores_everything(some.as_bytes(), true), "{some:?}");
    }
}

#[test]
fn the_samples_are_as_described() {
    let few = |is_it: &dyn Fn(&[u8]) -> bool| {
        SAMPLES.iter().filter(|line| is_it(line)).count() <= SAMPLES.len() / 10
    };
    assert!(few(&|line| !line[0].is_ascii_lowercase()));
    assert!(few(&|line| !line.contains(&b' ')));
    assert!(few(&|line| line.len() < 9));
    for letter in b'a'..=b'z' {
        assert!(SAMPLES.iter().any(|line| line[0] == letter), "{}", char::from(letter));
    }
    assert!(SAMPLES.iter().all(|line| line.len() <= LINE_MAX && !line.contains(&b'&')));
    assert_eq!(SAMPLES.iter().map(|line| line.len()).min(), Some(1));
    assert!(SAMPLES.iter().any(|line| line.len() >= 200));
}

#[test]
fn hostile_patterns_end_soon() {
    let begin = std::time::Instant::now();
    for (part, count) in [("*a", 2000), ("+(", 2000), ("!(", 2000), ("*(a|", 1000), ("[", 4000)] {
        let _ = ignores_everything(part.repeat(count).as_bytes(), true);
    }
    let nested = std::format!("{}*{}", "!(".repeat(15), ")".repeat(15));
    let _ = ignores_everything(nested.as_bytes(), true);
    let _ = ignores_everything("*(*(*(*(*(?)))))z".repeat(9).as_bytes(), true);
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
}
