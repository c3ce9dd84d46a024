//! Compiles words to steps.

mod operands;

use super::condition::Condition;
use super::keywords::{Keyword, OperandKind};
use super::terms::{FilterProtocol, FlowEnds, FlowStateName};
use super::words::{FilterWord, Token};
use super::{FilterError, FilterStep, NameSource, PARENTHESES_MAX, STEPS_MAX};

/// What qualifies an operand. An operand without qualifiers has those of the one before.
#[derive(Clone, Copy, Debug)]
struct Qualifiers {
    protocol: Option<FilterProtocol>,
    ends: FlowEnds,
    subject: OperandKind,
}

struct Parser<'a> {
    words: &'a [FilterWord<'a>],
    next: usize,
    /// The length of the expression in bytes.
    length: usize,
    names: NameSource,
    qualifiers: Option<Qualifiers>,
    steps: Vec<FilterStep>,
}

type FilterResult<T> = Result<T, FilterError>;

pub(super) fn parse(
    words: &[FilterWord<'_>],
    length: usize,
    names: NameSource,
) -> FilterResult<Vec<FilterStep>> {
    let steps = Vec::with_capacity(words.len() * 2);
    let mut parser = Parser { words, next: 0, length, names, qualifiers: None, steps };
    if words.is_empty() {
        return Ok(parser.steps);
    }
    parser.expression(0)?;
    match parser.peek() {
        None => Ok(parser.steps),
        Some(word) => parser.fail(format!("'and' or 'or' is missing before {}", shown(word))),
    }
}

/// A word in a message.
fn shown(word: &FilterWord<'_>) -> String {
    format!("'{}'", word.text.escape_default())
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a FilterWord<'a>> {
        self.words.get(self.next)
    }

    fn keyword(&self) -> Option<Keyword> {
        match self.peek()?.token {
            Token::Keyword(keyword) => Some(keyword),
            _ => None,
        }
    }

    fn take(&mut self, keyword: Keyword) -> bool {
        let is_next = self.keyword() == Some(keyword);
        self.next += usize::from(is_next);
        is_next
    }

    fn take_symbol(&mut self, symbol: char) -> bool {
        let is_next = self.peek().is_some_and(|word| word.token == Token::Symbol(symbol));
        self.next += usize::from(is_next);
        is_next
    }

    /// A mistake at the next word.
    fn fail<T>(&self, what: impl Into<String>) -> FilterResult<T> {
        Err(FilterError::new(self.peek().map_or(self.length, |word| word.at), what))
    }

    /// A mistake at the last word.
    fn fail_before<T>(&self, what: impl Into<String>) -> FilterResult<T> {
        let last = self.next.checked_sub(1).and_then(|at| self.words.get(at));
        Err(FilterError::new(last.map_or(0, |word| word.at), what))
    }

    fn emit(&mut self, step: FilterStep) -> FilterResult<()> {
        if self.steps.len() >= STEPS_MAX {
            return self.fail_before("the filter has too many conditions");
        }
        self.steps.push(step);
        Ok(())
    }

    /// A step that passes over what follows if the value is `on`. Where it ends is set later.
    fn skip(&mut self, on: bool) -> FilterResult<usize> {
        self.emit(FilterStep::Skip(on, 0))?;
        Ok(self.steps.len() - 1)
    }

    fn end_skip(&mut self, at: usize) {
        let distance = self.steps.len().saturating_sub(at + 1) as u16; // Below `STEPS_MAX`.
        if let Some(FilterStep::Skip(_, count)) = self.steps.get_mut(at) {
            *count = distance;
        }
    }

    /// Conditions of which all, or one, must hold.
    fn conditions(
        &mut self,
        conditions: impl IntoIterator<Item = Condition>,
        is_all: bool,
    ) -> FilterResult<()> {
        let mut before = None;
        for condition in conditions {
            if before.is_some() {
                before = Some(self.skip(!is_all)?);
            }
            self.emit(FilterStep::Test(condition))?;
            if let Some(at) = before {
                self.end_skip(at);
            }
            before = before.or(Some(0));
        }
        Ok(())
    }

    /// Terms from left to right.
    fn expression(&mut self, depth: u32) -> FilterResult<()> {
        self.term(depth)?;
        loop {
            let on = match self.keyword() {
                Some(Keyword::And) => false,
                Some(Keyword::Or) => true,
                _ => return Ok(()),
            };
            self.next += 1;
            let at = self.skip(on)?;
            self.term(depth)?;
            self.end_skip(at);
        }
    }

    fn term(&mut self, depth: u32) -> FilterResult<()> {
        let mut is_reversed = false;
        while self.take(Keyword::Not) {
            is_reversed = !is_reversed;
        }
        if self.take_symbol('(') {
            self.group(depth)?;
        } else {
            match self.keyword() {
                None | Some(Keyword::Compare(_)) => self.operand()?,
                Some(keyword) => self.qualified(keyword, depth)?,
            }
        }
        if is_reversed { self.emit(FilterStep::Not) } else { Ok(()) }
    }

    /// Parses an expression up to its closing parenthesis. Behind that, the qualifiers that held
    /// before the expression hold again.
    fn group(&mut self, depth: u32) -> FilterResult<()> {
        if depth >= PARENTHESES_MAX {
            return self.fail_before(format!("more than {PARENTHESES_MAX} open parentheses"));
        }
        let qualifiers = self.qualifiers;
        self.expression(depth + 1)?;
        if !self.take_symbol(')') {
            return self.fail("')' is missing");
        }
        self.qualifiers = qualifiers;
        Ok(())
    }

    /// A term that begins with a keyword.
    fn qualified(&mut self, keyword: Keyword, depth: u32) -> FilterResult<()> {
        let protocol = match keyword {
            Keyword::Protocol(protocol) => {
                self.next += 1;
                Some(protocol)
            }
            _ => None,
        };
        let ends = self.ends()?;
        let Some(next) = self.keyword() else {
            return match (protocol, ends) {
                (Some(protocol), FlowEnds::Default) => self.protocol(protocol),
                _ => self
                    .operand_of(Qualifiers { protocol, ends, subject: OperandKind::Host }, depth),
            };
        };
        let subject = match next {
            Keyword::Operand(kind) => kind,
            Keyword::State(state) => return self.state(protocol, ends, state),
            Keyword::Multicast | Keyword::Broadcast if ends == FlowEnds::Default => {
                return self.group_address(protocol, next == Keyword::Multicast);
            }
            Keyword::Not if ends != FlowEnds::Default => OperandKind::Host,
            _ if protocol.is_some() && ends == FlowEnds::Default => {
                return protocol.map_or(Ok(()), |protocol| self.protocol(protocol));
            }
            Keyword::Unsupported => return self.fail("this word of argus(8) is not supported"),
            _ => return self.fail("a condition is missing here"),
        };
        self.next += usize::from(next != Keyword::Not);
        self.operand_of(Qualifiers { protocol, ends, subject }, depth)
    }

    /// `src`, `dst`, or both with `or` or `and` between them.
    fn ends(&mut self) -> FilterResult<FlowEnds> {
        let (ends, other) = match self.keyword() {
            Some(Keyword::Source) => (FlowEnds::Source, Keyword::Destination),
            Some(Keyword::Destination) => (FlowEnds::Destination, Keyword::Source),
            _ => return Ok(FlowEnds::Default),
        };
        self.next += 1;
        let at = self.next;
        let both = match self.keyword() {
            Some(Keyword::Or) => FlowEnds::Either,
            Some(Keyword::And) => FlowEnds::Both,
            _ => return Ok(ends),
        };
        self.next += 1;
        if self.take(other) {
            return Ok(both);
        }
        self.next = at;
        self.fail("an address or a qualifier is missing here")
    }

    /// A protocol alone. No qualifiers hold behind it.
    fn protocol(&mut self, protocol: FilterProtocol) -> FilterResult<()> {
        if protocol == FilterProtocol::Link {
            return self.fail("'host', 'proto', 'multicast' or 'broadcast' is missing here");
        }
        self.qualifiers = None;
        self.emit(FilterStep::Test(Condition::Protocol(protocol)))
    }

    fn state(
        &mut self,
        protocol: Option<FilterProtocol>,
        ends: FlowEnds,
        state: FlowStateName,
    ) -> FilterResult<()> {
        if ends != FlowEnds::Default && !state.has_ends() {
            return self.fail("this state has no 'src' and 'dst'");
        }
        self.next += 1;
        // As in argus, a state has the ends of the term before it, which stay in force.
        let inherited = self.qualifiers.map_or(FlowEnds::Default, |qualifiers| qualifiers.ends);
        let has_own = ends != FlowEnds::Default || protocol.is_some();
        let ends = if has_own || !state.has_ends() { ends } else { inherited };
        if !state.has_ends() && !matches!(state, FlowStateName::TcpOption(_)) {
            self.qualifiers = None;
        }
        let protocol = protocol.map(Condition::Protocol);
        self.conditions(protocol.into_iter().chain([Condition::State(state, ends)]), true)
    }

    fn group_address(
        &mut self,
        protocol: Option<FilterProtocol>,
        is_multicast: bool,
    ) -> FilterResult<()> {
        let condition = match (protocol, is_multicast) {
            (Some(FilterProtocol::Link), true) => Condition::HardwareGroup,
            (Some(FilterProtocol::Link), false) => Condition::HardwareBroadcast,
            (None | Some(FilterProtocol::Ip), true) => Condition::Multicast,
            (Some(FilterProtocol::Ip), false) => Condition::Broadcast,
            _ => return self.fail("only 'ether' and 'ip' go before this word"),
        };
        self.next += 1;
        self.qualifiers = None;
        self.emit(FilterStep::Test(condition))
    }

    /// Parses what follows qualifiers: an operand, or several between parentheses.
    fn operand_of(&mut self, qualifiers: Qualifiers, depth: u32) -> FilterResult<()> {
        self.qualifiers = Some(qualifiers);
        let mut is_reversed = false;
        while self.take(Keyword::Not) {
            is_reversed = !is_reversed;
        }
        if self.take_symbol('(') {
            self.group(depth)?;
        } else {
            self.operand()?;
        }
        if is_reversed { self.emit(FilterStep::Not) } else { Ok(()) }
    }

    fn operand(&mut self) -> FilterResult<()> {
        let Some(word) = self.peek() else { return self.fail("a condition is missing here") };
        let Some(qualifiers) = self.qualifiers else {
            let what = format!("a qualifier, such as 'host', is missing before {}", shown(word));
            return self.fail(what);
        };
        let comparison = match word.token {
            Token::Keyword(Keyword::Compare(comparison)) => Some(comparison),
            _ => None,
        };
        self.next += usize::from(comparison.is_some());
        match qualifiers.subject {
            OperandKind::Number(field) => self.number(qualifiers, field, comparison),
            OperandKind::Real(field) => self.real(qualifiers, field, comparison),
            OperandKind::Port => self.port(qualifiers, comparison),
            _ if comparison.is_some() => self.fail_before("only numbers are compared"),
            OperandKind::Host | OperandKind::Net => self.host(qualifiers),
            OperandKind::SourceId | OperandKind::Inode => self.id(qualifiers),
            OperandKind::Gateway => self.gateway(qualifiers),
            OperandKind::Proto => self.proto(qualifiers),
            OperandKind::Encapsulation | OperandKind::Country => self.named(qualifiers),
        }
    }

    /// The next word as a name: also a keyword, where only a name can be.
    fn name(&mut self) -> Option<&'a str> {
        let word = self.peek()?;
        let name = match word.token {
            Token::Name(name) | Token::Quoted(name) => name,
            Token::Keyword(_) => word.text,
            _ => return None,
        };
        self.next += 1;
        Some(name)
    }

    /// The next word as a whole number.
    fn whole(&mut self) -> Option<i64> {
        let Token::Number(number) = self.peek()?.token else { return None };
        self.next += 1;
        Some(number)
    }

    /// Conditions, and that of the protocol that qualifies them.
    fn qualified_by(&mut self, qualifiers: Qualifiers, condition: Condition) -> FilterResult<()> {
        let protocol = qualifiers.protocol.map(Condition::Protocol);
        self.conditions(protocol.into_iter().chain([condition]), true)
    }
}
