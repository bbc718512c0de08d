use super::request::REQUEST;
use super::*;

#[test]
fn a_request_is_laid_out_as_the_kernel_wants_it() {
    let mut request = Request::new();
    request.message(16, ACK, |m| {
        m.raw(&[7; 6]);
        m.text(3, "lo");
        m.nest(18, |m| m.u32(1, 0x0102_0304));
    });
    assert_eq!(request.finish(9).unwrap(), 1);
    let decoded = Messages::new(&request.bytes).next().unwrap().unwrap();
    assert_eq!(
        (decoded.kind, decoded.flags, decoded.sequence),
        (16, ACK | REQUEST, 9)
    );
    let attributes = decoded.attributes(6);
    assert_eq!(attributes.get(3).unwrap().text(), Some("lo"));
    assert_eq!(
        attributes.get(18).unwrap().nested().get(1).unwrap().u32(),
        Some(0x0102_0304)
    );
    assert_eq!(request.bytes.len() % 4, 0);
}

#[test]
fn attributes_beyond_sixteen_bits_are_refused() {
    let mut request = Request::new();
    request.message(16, 0, |m| m.bytes(1, &vec![0; 70_000]));
    assert_eq!(request.finish(1), Err(Error::TooLong));
}

#[test]
fn every_truncation_is_an_error_or_an_end_and_never_a_panic() {
    let mut request = Request::new();
    request.message(2, 0, |m| {
        m.raw(&(-17_i32).to_ne_bytes());
        m.nest(1, |m| m.nest(2, |m| m.u32(3, 4)));
    });
    request.finish(1).unwrap();
    for end in 0..request.bytes.len() {
        for message in Messages::new(&request.bytes[..end]) {
            assert_eq!(message.err(), Some(Error::Malformed), "cut at {end}");
        }
        for attribute in Attributes::new(&request.bytes[end..]) {
            attribute.nested().for_each(drop);
        }
    }
}

#[test]
fn lengths_below_the_header_end_the_decoding() {
    assert_eq!(
        Messages::new(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).count(),
        1
    );
    assert_eq!(Attributes::new(&[0, 0, 1, 0, 0, 0, 0, 0]).count(), 0);
    assert_eq!(Attributes::new(&[4, 0, 1, 0, 3, 0, 1, 0]).count(), 1);
}

#[test]
fn the_kernel_answers_with_the_loopback_link() {
    let mut socket = Socket::open(Protocol::Route).unwrap();
    let mut request = Request::new();
    // RTM_GETLINK of interface 1.
    request.message(18, 0, |m| {
        m.raw(&[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    });
    let mut name = None;
    socket
        .ask(request, |message| {
            name = message
                .attributes(16)
                .get(3)
                .and_then(|a| a.text().map(str::to_owned));
            Ok(())
        })
        .unwrap();
    assert_eq!(name.as_deref(), Some("lo"));
}

#[test]
fn a_refusal_names_the_message() {
    let mut socket = Socket::open(Protocol::Route).unwrap();
    let mut request = Request::new();
    // RTM_GETLINK of the loopback link, and of one that is not there.
    for index in [1_i32, 0x7fff_fff0] {
        let mut body = [0; 16];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        request.message(18, ACK, |m| m.raw(&body));
    }
    let error = socket.change(request).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Refused {
                errno: Errno::NODEV,
                index: 1,
                ..
            }
        ),
        "{error:?}"
    );
}
