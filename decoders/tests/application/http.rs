//! Heads of HTTP/1.

use panoptes_decoders::application::http::{Request, Response};

use super::recorded::data;

#[test]
fn requests_of_curl_are_read() {
    let get = data("get");
    let request = Request::decode(&get).expect("a request");
    assert_eq!((request.method, request.target), (&b"GET"[..], &b"/index.html?a=b"[..]));
    assert_eq!(request.version, Some(1));
    assert_eq!(request.host(), Some(&b"www.flow.example"[..]));
    assert_eq!(request.user_agent(), Some(&b"curl/7.88.1"[..]));
    let headers: Vec<_> = request.headers.map(|(name, _)| name).collect();
    assert_eq!(headers, [&b"Host"[..], b"User-Agent", b"Accept"]);

    let post = data("post");
    let request = Request::decode(&post).expect("a request");
    assert_eq!((request.method, request.target), (&b"POST"[..], &b"/none"[..]));
    assert_eq!(request.user_agent(), Some(&b"flow/1.0 (test)"[..]));
    assert_eq!(request.headers.count(), 5, "without the body");
    assert_eq!(Response::decode(&post), None);
}

#[test]
fn responses_of_python_are_read() {
    let answer = data("get-answer");
    let response = Response::decode(&answer).expect("a response");
    assert_eq!((response.version, response.status), (0, 200));
    assert_eq!(response.server(), Some(&b"SimpleHTTP/0.6 Python/3.11.7"[..]));
    assert_eq!(response.content_type(), Some(&b"text/html"[..]));

    let answer = data("post-answer");
    let response = Response::decode(&answer).expect("a response");
    assert_eq!(response.status, 501);
    assert_eq!(response.content_type(), Some(&b"text/html;charset=utf-8"[..]));
    assert_eq!(Request::decode(&answer), None);
}

#[test]
fn a_head_that_is_cut_gives_its_whole_lines() {
    let get = data("get");
    // The first line ends at 30, the host's at 54.
    let request = Request::decode(&get[..20]).expect("a request");
    assert_eq!((request.target, request.version), (&b"/index.html?a=b"[..], None));
    assert_eq!(Request::decode(&get[..53]).expect("a request").host(), None);
    let request = Request::decode(&get[..54]).expect("a request");
    assert_eq!(request.host(), Some(&b"www.flow.example"[..]));
    let response = Response::decode(b"HTTP/1.1 404").expect("a response");
    assert_eq!((response.status, response.headers.count()), (404, 0));
    assert_eq!(Response::decode(b"HTTP/1.1 40"), None);
}

#[test]
fn blanks_and_letters_vary() {
    let request = Request::decode(
        b"OPTIONS * HTTP/1.0\nhOsT:\t a.example:80 \t\r\nhost: b\r\n\r\nUser-Agent: body\r\n",
    );
    let request = request.expect("a request");
    assert_eq!(request.target, b"*");
    assert_eq!(request.host(), Some(&b"a.example:80"[..]), "the first one");
    assert_eq!(request.user_agent(), None, "behind the head");
    let request = Request::decode(b"GET /a b HTTP/1.1\r\nHost:\r\n\r\n").expect("a request");
    assert_eq!((request.target, request.host()), (&b"/a b"[..], Some(&b""[..])));
}

#[test]
fn lines_without_a_name_are_skipped() {
    let head =
        b"GET / HTTP/1.1\r\nno colon\r\n: no name\r\n Host: folded\r\nHost : a\r\nHost: b\r\n\r\n";
    assert_eq!(Request::decode(head).expect("a request").host(), Some(&b"b"[..]));
    // Only the first lines are looked at.
    let many = |count: usize| {
        [b"GET / HTTP/1.1\r\n".to_vec(), b"x\r\n".repeat(count), b"Host: b\r\n".to_vec()].concat()
    };
    assert_eq!(Request::decode(&many(255)).expect("a request").host(), Some(&b"b"[..]));
    assert_eq!(Request::decode(&many(256)).expect("a request").host(), None);
}

#[test]
fn other_data_is_no_http() {
    for data in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"GET /\r\n",
        b"hello world",
        b"G\xffT / HTTP/1.1\r\n",
        b" / HTTP/1.1\r\n",
        b"EHLO mail.example\r\n",
        b"GET",
        b"",
    ] {
        assert_eq!(Request::decode(data), None, "{data:?}");
    }
    for data in
        [&b"HTTP/2 200\r\n"[..], b"HTTP/1.1 2000 OK\r\n", b"HTTP/1.1 099 x\r\n", b"ICY 200 OK\r\n"]
    {
        assert_eq!(Response::decode(data), None, "{data:?}");
    }
}
