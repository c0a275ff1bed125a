//! Random requests of several domains, against the model.

use super::model::{Answer, Ask, Nodes, covers};
use super::*;
use alloc::collections::{BTreeMap, BTreeSet};
use guest_kernel::store::wire::Rights;
use proptest::prelude::*;
use std::format;
use std::string::{String, ToString};

const DOMAINS: u16 = 4;

/// One step of a test. Numbers name one of what there is.
#[derive(Clone, Debug)]
enum Step {
    /// Domain, a transaction of its or none, and what it wants.
    Ask(u16, usize, Ask),
    Start(u16),
    End(u16, usize, bool),
    Watch(u16, String, u8),
    Unwatch(u16, usize),
    Reset(u16),
    /// Who asks, and for whom.
    Release(u16, u16),
    /// The same, and a port.
    Introduce(u16, u16, u32),
}

fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c")];
    let place = prop_oneof![
        3 => Just("/all".to_string()),
        2 => (1..DOMAINS).prop_map(|domain| format!("/local/domain/{domain}")),
        1 => Just(String::new()),
    ];
    (place, proptest::collection::vec(name, 0..4)).prop_map(|(place, names)| {
        let path = names.iter().fold(place, |path, name| path + "/" + name);
        if path.is_empty() { "/".into() } else { path }
    })
}

fn entries() -> impl Strategy<Value = Vec<Permission>> {
    let rights = prop_oneof![Just(Rights::NONE), Just(Rights::READ), Just(Rights::WRITE), Just(Rights::BOTH)];
    let entry = (0..DOMAINS, rights).prop_map(|(domain, rights)| Permission::new(domain, rights));
    proptest::collection::vec(entry, 1..4)
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        3 => path().prop_map(Ask::Read),
        6 => (path(), any::<u8>()).prop_map(|(path, value)| Ask::Write(path, value)),
        2 => path().prop_map(Ask::Mkdir),
        2 => path().prop_map(Ask::Remove),
        2 => path().prop_map(Ask::Directory),
        1 => path().prop_map(Ask::Permissions),
        2 => (path(), entries()).prop_map(|(path, all)| Ask::SetPermissions(path, all)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let domain = 0..DOMAINS;
    prop_oneof![
        20 => (domain.clone(), 0..4usize, ask()).prop_map(|(domain, tx, ask)| Step::Ask(domain, tx, ask)),
        3 => domain.clone().prop_map(Step::Start),
        3 => (domain.clone(), 0..4usize, prop::bool::weighted(0.9)).prop_map(|(d, tx, commit)| Step::End(d, tx, commit)),
        3 => (domain.clone(), path(), 0..3u8).prop_map(|(domain, path, token)| Step::Watch(domain, path, token)),
        1 => (domain.clone(), 0..4usize).prop_map(|(domain, watch)| Step::Unwatch(domain, watch)),
        1 => domain.clone().prop_map(Step::Reset),
        2 => (domain.clone(), 1..DOMAINS).prop_map(|(by, domain)| Step::Release(by, domain)),
        1 => (domain.clone(), domain, 0..3u32).prop_map(|(by, domain, port)| Step::Introduce(by, domain, port)),
    ]
}

/// A transaction as the model knows it: what was asked and answered, and which paths others have changed since.
#[derive(Default)]
struct Open {
    asked: Vec<(Ask, Result<Answer, Errno>)>,
    changed: BTreeSet<String>,
}

impl Open {
    /// Whether others have changed something on the way to what was asked for, or below. If not, it goes on as it began,
    /// and ends well.
    fn is_disturbed(&self) -> bool {
        let related =
            |(ask, _): &(Ask, _)| self.changed.iter().any(|path| covers(path, ask.path()) || covers(ask.path(), path));
        self.asked.iter().any(related)
    }
}

type Pairs = BTreeSet<(String, String)>;

/// A domain's connection, and what the model knows of it.
struct Side {
    bus: Guest,
    open: BTreeMap<u32, Open>,
    watches: BTreeSet<(String, String)>,
}

struct World {
    store: Shared,
    nodes: Nodes,
    sides: Vec<Side>,
}

fn send(bus: &mut Guest, tx: Tx, ask: &Ask) -> Result<Answer, Errno> {
    match ask {
        Ask::Read(path) => bus.read(tx, path).map(Answer::Value),
        Ask::Write(path, value) => bus.write(tx, path, &[*value]).map(|()| Answer::Done),
        Ask::Mkdir(path) => bus.mkdir(tx, path).map(|()| Answer::Done),
        Ask::Remove(path) => bus.remove(tx, path).map(|()| Answer::Done),
        Ask::Directory(path) => bus.directory(tx, path).map(Answer::Names),
        Ask::Permissions(path) => bus.permissions(tx, path).map(Answer::Permissions),
        Ask::SetPermissions(path, all) => bus.set_permissions(tx, path, all).map(|()| Answer::Done),
    }
}

/// The nodes as a transaction of `domain` leaves them; `None` if it would be answered differently now.
fn replay(nodes: &Nodes, domain: u16, open: &Open) -> Option<Nodes> {
    let mut nodes = nodes.clone();
    for (ask, answer) in &open.asked {
        if nodes.act(domain, ask).map(|(answer, _)| answer) != *answer {
            return None;
        }
    }
    Some(nodes)
}

impl World {
    fn new() -> World {
        let store = shared(Limits { nodes: usize::MAX, bytes: usize::MAX, ..Limits::default() });
        let mut nodes = Nodes::new();
        let mut bus = Guest { store: store.clone(), id: store.borrow_mut().connect(0) };
        let mut setup = Vec::from([Ask::Mkdir("/all".into()), Ask::SetPermissions("/all".into(), permissions("b0"))]);
        for domain in 1..DOMAINS {
            let home = format!("/local/domain/{domain}");
            setup.push(Ask::Mkdir(home.clone()));
            setup.push(Ask::SetPermissions(home, permissions(&format!("n{domain}"))));
        }
        for ask in setup {
            send(&mut bus, Tx::NONE, &ask).unwrap();
            nodes.act(0, &ask).unwrap();
        }
        let sides = [bus].into_iter().chain((1..DOMAINS).map(|domain| Guest::introduce(&store, domain)));
        let sides = sides.map(|bus| Side { bus, open: BTreeMap::new(), watches: BTreeSet::new() }).collect();
        World { store, nodes, sides }
    }

    /// All transactions but one learn that others changed something.
    fn note(&mut self, changed: &BTreeSet<String>, but: Option<(u16, u32)>) {
        for (domain, side) in (0..).zip(&mut self.sides) {
            for (tx, open) in &mut side.open {
                if but != Some((domain, *tx)) {
                    open.changed.extend(changed.iter().cloned());
                }
            }
        }
    }

    /// All events of all domains.
    fn events(&mut self) -> Vec<Pairs> {
        self.sides.iter_mut().map(|side| side.bus.events().into_iter().collect()).collect()
    }

    fn ask(&mut self, domain: u16, tx: usize, ask: &Ask) {
        let side = &mut self.sides[usize::from(domain)];
        let tx = side.open.keys().nth(tx).copied().unwrap_or(0);
        let answer = send(&mut side.bus, Tx(tx), ask);
        if let Some(open) = side.open.get_mut(&tx) {
            if !open.is_disturbed() {
                let mut nodes = replay(&self.nodes, domain, open).expect("nothing has changed");
                assert_eq!(answer, nodes.act(domain, ask).map(|(answer, _)| answer), "{ask:?} in {tx}");
            }
            open.asked.push((ask.clone(), answer));
            assert!(self.events().iter().all(Pairs::is_empty));
            return;
        }
        let before = self.nodes.clone();
        let (expected, change) = match self.nodes.act(domain, ask) {
            Ok((answer, change)) => (Ok(answer), change),
            Err(errno) => (Err(errno), None),
        };
        assert_eq!(answer, expected, "{ask:?} of {domain}");
        let mut changed = before.differences(&self.nodes);
        changed.extend(change.as_ref().map(|change| change.path.clone()));
        self.note(&changed, None);
        let events = self.events();
        for ((domain, side), events) in (0..).zip(&self.sides).zip(events) {
            let told = side.watches.iter().filter_map(|(watched, token)| {
                Some((change.as_ref()?.event(&self.nodes, domain, watched)?, token.clone()))
            });
            assert_eq!(events, told.collect::<Pairs>(), "{ask:?} seen by {domain}");
        }
    }

    fn end(&mut self, domain: u16, tx: usize, commit: bool) {
        let side = &mut self.sides[usize::from(domain)];
        let Some((tx, open)) = side.open.keys().nth(tx).copied().and_then(|tx| side.open.remove_entry(&tx)) else {
            assert_eq!(side.bus.end(Tx(99_999), commit), Err(Errno::ENOENT));
            return;
        };
        let result = side.bus.end(Tx(tx), commit);
        let events = self.events();
        if !commit || result.is_err() {
            assert!(events.iter().all(Pairs::is_empty));
        }
        match result {
            Ok(()) if commit => {
                let after = replay(&self.nodes, domain, &open).expect("a transaction that saw what isn't so");
                let changed = self.nodes.differences(&after);
                let before = core::mem::replace(&mut self.nodes, after);
                self.check_events(&open, &before, &changed, &events);
                // A value written again is a change too.
                let asked = open.asked.iter().map(|(ask, _)| ask.path().to_string());
                let changed = changed.into_iter().chain(asked).collect();
                self.note(&changed, None);
            }
            Ok(()) => {}
            Err(errno) => {
                assert_eq!((errno, commit), (Errno::EAGAIN, true));
                assert!(open.is_disturbed(), "{:?} stopped by {:?}", open.asked, open.changed);
            }
        }
    }

    /// Events of a transaction: nobody who may know of a change is left out, and nobody learns of what wasn't touched.
    fn check_events(&self, open: &Open, before: &Nodes, changed: &BTreeSet<String>, events: &[Pairs]) {
        let asked: BTreeSet<&str> = open.asked.iter().map(|(ask, _)| ask.path()).collect();
        for ((domain, side), events) in (0..).zip(&self.sides).zip(events) {
            for (path, token) in events {
                let watch = side.watches.iter().find(|(watched, of)| of == token && covers(watched, path));
                let (watched, _) = watch.expect("an event for no watch");
                assert!(asked.contains(&**path) || watched == path && asked.iter().any(|asked| covers(asked, path)));
            }
            for path in changed {
                let nodes = [before.0.get(path), self.nodes.0.get(path)];
                if nodes.iter().flatten().any(|node| super::model::may(&node.1, domain, Rights::READ)) {
                    for (_, token) in side.watches.iter().filter(|(watched, _)| watched == path) {
                        assert!(events.iter().any(|(_, of)| of == token), "{path} unknown to {domain}");
                    }
                }
            }
        }
    }

    fn release(&mut self, by: u16, domain: u16) {
        let released = self.sides[usize::from(by)].bus.release(domain);
        if by != 0 {
            assert_eq!(released, Err(Errno::EACCES));
            return;
        }
        assert_eq!(released, Ok(()));
        assert_eq!(self.sides[0].bus.release(domain), Err(Errno::ENOENT));
        let changes = self.nodes.release(domain);
        let events = self.events();
        for ((of, side), events) in (0..).zip(&self.sides).zip(events).filter(|((of, _), _)| *of != domain) {
            let told = side.watches.iter().flat_map(|(watched, token)| {
                changes.iter().filter_map(|change| Some((change.event(&self.nodes, of, watched)?, token.clone())))
            });
            assert_eq!(events, told.collect::<Pairs>(), "the release of {domain} seen by {of}");
        }
        let bus = Guest::introduce(&self.store, domain);
        self.sides[usize::from(domain)] = Side { bus, open: BTreeMap::new(), watches: BTreeSet::new() };
        // A transaction that has seen its permissions may notice, or may not: what it saw of nodes has not changed.
        for side in &mut self.sides {
            for tx in core::mem::take(&mut side.open).into_keys() {
                side.bus.end(Tx(tx), false).unwrap();
            }
        }
        let home = format!("/local/domain/{domain}");
        self.ask(0, 0, &Ask::Mkdir(home.clone()));
        self.ask(0, 0, &Ask::SetPermissions(home, permissions(&format!("n{domain}"))));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Ask(domain, tx, ask) => self.ask(*domain, *tx, ask),
            Step::End(domain, tx, commit) => self.end(*domain, *tx, *commit),
            Step::Release(by, domain) => self.release(*by, *domain),
            Step::Introduce(by, domain, port) => {
                // All are introduced, so that at most one has a new port: nothing else changes, and nobody is told.
                let answer = self.sides[usize::from(*by)].bus.introduce(*domain, 1, *port);
                let expected = match (by, domain, port) {
                    (1.., ..) => Err(Errno::EACCES),
                    (0, 0, _) | (0, _, 0) => Err(Errno::EINVAL),
                    _ => Ok(()),
                };
                assert_eq!(answer, expected);
                assert!(self.events().iter().all(Pairs::is_empty));
            }
            Step::Start(domain) => {
                let side = &mut self.sides[usize::from(*domain)];
                if side.open.len() < 3 {
                    side.open.insert(side.bus.start().unwrap().0, Open::default());
                }
            }
            Step::Watch(domain, path, token) => {
                let side = &mut self.sides[usize::from(*domain)];
                let (token, expected) = (format!("{path} {token}"), Pairs::new());
                let is_new = side.watches.insert((path.clone(), token.clone()));
                assert_eq!(side.bus.watch(path, &token), if is_new { Ok(()) } else { Err(Errno::EEXIST) });
                let events: Pairs = side.bus.events().into_iter().collect();
                assert_eq!(events, if is_new { Pairs::from([(path.clone(), token)]) } else { expected });
            }
            Step::Unwatch(domain, watch) => {
                let side = &mut self.sides[usize::from(*domain)];
                if let Some((path, token)) = side.watches.iter().nth(*watch).cloned() {
                    side.bus.unwatch(&path, &token).unwrap();
                    side.watches.remove(&(path, token));
                }
            }
            Step::Reset(domain) => {
                let side = &mut self.sides[usize::from(*domain)];
                side.bus.reset_watches().unwrap();
                side.open.clear();
                side.watches.clear();
            }
        }
    }

    /// The server's tree is the model's, and nothing is counted twice or forgotten.
    fn check(&mut self) {
        let bus = &mut self.sides[0].bus;
        for (path, (value, permissions)) in &self.nodes.0 {
            assert_eq!(bus.read(Tx::NONE, path).as_ref(), Ok(value), "{path}");
            assert_eq!(bus.permissions(Tx::NONE, path).as_ref(), Ok(permissions), "{path}");
        }
        let store = self.store.borrow();
        assert_eq!(store.usage(0).0, self.nodes.0.len());
        for domain in 1..DOMAINS {
            let owned = self.nodes.0.values().filter(|node| node.1[0].domain == domain).count();
            assert_eq!(store.usage(domain).1.0, owned, "nodes of {domain}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_server_does_what_the_model_does(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.check();
        // All that domains have is given back.
        for domain in 0..DOMAINS {
            world.step(&Step::Reset(domain));
        }
        let bus = &mut world.sides[0].bus;
        for name in bus.directory(Tx::NONE, "/").unwrap() {
            bus.remove(Tx::NONE, &format!("/{name}")).unwrap();
        }
        bus.set_permissions(Tx::NONE, "/", &permissions("n0")).unwrap();
        for domain in 1..DOMAINS {
            prop_assert_eq!(world.store.borrow().usage(domain).1, (0, 0));
        }
    }
}
