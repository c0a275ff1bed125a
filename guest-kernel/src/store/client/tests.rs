//! The client against a server that does what a test tells it.

use super::*;
use proptest::prelude::*;
use std::vec;

/// A server's end, by hand.
struct Server {
    stream: Stream,
    incoming: Assembler,
}

impl Server {
    fn new(page: &Interface) -> Server {
        Server { stream: Stream::new(End::Server, page), incoming: Assembler::default() }
    }

    fn request(&mut self, page: &Interface) -> Option<Message> {
        self.incoming.pull(|bytes| Ok::<_, Broken>(self.stream.read(page, bytes)?)).unwrap()
    }

    /// Sends a message, with the client at work whenever the ring is full.
    fn send(&mut self, page: &Interface, client: &mut Client, message: &Message) {
        let mut bytes = VecDeque::new();
        message.encode(&mut bytes).unwrap();
        while !bytes.is_empty() {
            let count = self.stream.write(page, bytes.iter().copied()).unwrap();
            bytes.drain(..count);
            client.work(page);
        }
    }
}

#[test]
fn replies_find_their_requests_in_any_order() {
    let page = Interface::new();
    let (mut client, mut server) = (Client::new(&page), Server::new(&page));
    let [first, second, third] = [XS_READ, XS_WRITE, XS_RM].map(|kind| client.submit(kind, Tx(3), &[b"a\0"]).unwrap());
    assert!(client.work(&page));
    let requests: Vec<_> = core::iter::from_fn(|| server.request(&page)).collect();
    assert_eq!(requests.iter().map(|request| request.request).collect::<Vec<_>>(), [first, second, third]);
    assert!(requests.iter().all(|request| request.transaction == 3 && request.payload == b"a\0"));
    let event = Message { kind: XS_WATCH_EVENT, payload: b"p\0t\0".to_vec(), ..Message::default() };
    server.send(&page, &mut client, &event);
    server.send(&page, &mut client, &Message { kind: XS_ERROR, payload: b"EROFS\0".to_vec(), ..requests[2].clone() });
    server.send(&page, &mut client, &Message { payload: vec![1; 4096], ..requests[0].clone() });
    assert_eq!(client.reply(second), None);
    assert_eq!(client.reply(first), Some(Ok(vec![1; 4096])));
    assert_eq!(client.reply(third), Some(Err(Errno::EROFS)));
    assert_eq!(client.reply(third), None);
    // A reply of another kind, and one more that comes too late.
    server.send(&page, &mut client, &Message { kind: XS_MKDIR, ..requests[1].clone() });
    server.send(&page, &mut client, &Message { payload: vec![], ..requests[1].clone() });
    assert_eq!(client.reply(second), Some(Err(Errno::EIO)));
    assert_eq!(client.event(), Some(Event { path: "p".into(), token: "t".into() }));
    assert_eq!(client.event(), None);
    assert!(!client.is_broken());
}

#[test]
fn a_broken_connection_fails_everything_until_it_is_made_afresh() {
    let page = Interface::new();
    page.server_features.store(XENSTORE_SERVER_FEATURE_ERROR, Ordering::Relaxed);
    let mut client = Client::new(&page);
    let before = client.submit(XS_READ, Tx::NONE, &[b"a\0"]).unwrap();
    page.error.store(XENSTORE_ERROR_PROTO, Ordering::Relaxed);
    assert!(!client.work(&page));
    assert_eq!(client.reply(before), Some(Err(Errno::EIO)));
    let after = client.submit(XS_READ, Tx::NONE, &[b"a\0"]).unwrap();
    assert_eq!(client.reply(after), Some(Err(Errno::EIO)));
    assert!(client.is_broken() && !client.reconnect(&page));

    page.server_features.store(XENSTORE_SERVER_FEATURE_RECONNECTION, Ordering::Relaxed);
    assert!(client.reconnect(&page));
    assert_eq!(page.connection.load(Ordering::Relaxed), XENSTORE_RECONNECT);
    let waiting = client.submit(XS_READ, Tx::NONE, &[b"b\0"]).unwrap();
    assert!(!client.work(&page));
    page.clear();
    page.connection.store(XENSTORE_CONNECTED, Ordering::Relaxed);
    assert!(client.work(&page));
    let request = Server::new(&page).request(&page).unwrap();
    assert_eq!((request.request, &request.payload[..]), (waiting, &b"b\0"[..]));
}

#[test]
fn what_is_too_long_is_not_sent() {
    let page = Interface::new();
    let mut client = Client::new(&page);
    assert_eq!(client.submit(XS_WRITE, Tx::NONE, &[&[1; 4096], b"\0"]), Err(Errno::E2BIG));
    assert!(!client.work(&page));
}

proptest! {
    #[test]
    fn a_server_that_sends_anything_harms_nobody(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        indices in proptest::option::of(any::<[u32; 4]>()),
    ) {
        let page = Interface::new();
        let mut client = Client::new(&page);
        let id = client.submit(XS_READ, Tx::NONE, &[b"a\0"]).unwrap();
        client.work(&page);
        let mut server = Server::new(&page);
        server.stream.write(&page, bytes).unwrap();
        if let Some(indices) = indices {
            page.set_indices(indices);
        }
        client.work(&page);
        client.work(&page);
        let _ = (client.reply(id), client.event());
    }
}
