//! The page of the admin listener, as a person sees it in a browser.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use recluster_e2e::{Browser, Connection, Home, Launch, Master, Response, eventually, get, on};
use rustix::process::Signal;

/// What a browser would be shown, and run, if the page took what a worker says for HTML.
const HOSTILE: &str = "<img src=x onerror=document.title='taken'><script>document.title='taken'</script>";

#[test]
fn it_is_one_file_whose_policy_lets_nothing_else_run() {
    let master = Launch::fixture("server.js").workers(1).with_admin().serve();
    let page = get(master.admin(), "/").expect("an answer");
    assert_eq!(
        (page.status, page.header("content-type").as_deref()),
        (200, Some("text/html; charset=utf-8"))
    );
    let policy = page.header("content-security-policy").expect("it has one");
    assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{policy}");
    for tag in ["script", "style"] {
        let sum = format!("{tag}-src 'sha256-{}'", sum(between(&page, tag)));
        assert!(policy.contains(&sum), "in crates/engine/src/admin/page.rs it has to be {sum}");
    }
    for elsewhere in [" src=", "@import", "url(", "https://", "innerHTML", " style=", " onclick="] {
        assert!(!page.body.contains(elsewhere), "{elsewhere}");
    }
}

/// What stands between the tags of this name.
fn between<'a>(page: &'a Response, tag: &str) -> &'a str {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    assert_eq!((page.body.matches(&open).count(), page.body.matches(&close).count()), (1, 1));
    let (_, rest) = page.body.split_once(&open).expect("it is there");
    rest.split_once(&close).expect("it ends").0
}

/// The SHA-256 of a text in Base64, by a program that knows it.
fn sum(text: &str) -> String {
    let code = "import base64, hashlib, sys\n\
        print(base64.b64encode(hashlib.sha256(sys.stdin.buffer.read()).digest()).decode(), end='')";
    let mut python = Command::new("python3");
    python.args(["-c", code]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().expect("it runs");
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8(output.stdout).expect("it is text")
}

/// What a worker has said is shown as it was said, and does nothing.
#[cfg_attr(not(has = "chromium"), ignore = "chromium is not installed")]
#[test]
fn a_reload_and_a_rollback_are_seen_as_they_come() {
    let home = Home::new();
    home.release("good", "server.js");
    home.release("bad", "server.js");
    home.write("bad/server.js", &format!("console.error({HOSTILE:?}); process.exit(7);"));
    home.switch("good");
    let launch = Launch::of(home.join("current/server.js")).home(&home).workers(2).with_admin();
    let master =
        launch.option("--attempts", "1").option("--worker-metrics", "http").option("--name", "shop").serve();
    let mut browser = Browser::open();
    browser.visit(&format!("http://{}/", master.admin()));
    browser.wait("document.querySelector('h1').textContent === 'shop: running'");
    let states =
        "[...document.querySelectorAll('#workers tr')].map(row => row.children[1].textContent).join()";
    browser.wait(&format!("{states} === 'serving,serving'"));
    let drawn =
        "document.querySelector('[data-plot=\"Memory\"] path.series').getAttribute('d').includes('L')";
    browser.wait(drawn);
    browser.wait("!document.querySelector('[data-plot=\"Event loop utilisation\"]').hidden");
    // One that was answered before its worker was heard for the first time is in no plot.
    eventually("requests are drawn", || {
        assert_eq!(master.get("/").status, 200);
        let label = browser.value("document.querySelector('[data-plot=Requests] svg').ariaLabel ?? ''");
        label.as_str().is_some_and(|label| label.contains("at most ") && !label.contains("at most 0 /s"))
    });

    master.reload().expect_code(0);
    browser.wait("document.querySelector('#events [data-verdict=done]')");
    browser.wait("document.querySelector('#plots .mark.info')");
    browser.wait("document.querySelector('[data-fact=Generation] dd').textContent === '2'");

    home.switch("bad");
    master.reload().expect_code(1);
    browser.wait("document.querySelector('#events [data-verdict=rolled_back]')");
    browser.wait("document.querySelector('#plots .mark.error')");
    browser.wait("document.querySelector('.notice.bad p').textContent.includes('exited with status 7')");
    let shown = browser.value("document.querySelector('.notice.bad pre').textContent");
    assert!(shown.as_str().is_some_and(|text| text.contains(HOSTILE)), "{shown}");
    assert_eq!(browser.value("document.images.length + document.scripts.length"), 1);
    assert_eq!(browser.value("document.title"), "✗ shop: 2 of 2 serve");
    browser.wait(&format!("{states} === 'serving,serving'"));
    assert_eq!(browser.faults(), [""; 0]);
}

#[cfg_attr(not(has = "chromium"), ignore = "chromium is not installed")]
#[test]
fn a_worker_that_is_stopped_is_seen_as_that_until_it_goes_on() {
    let master = Launch::fixture("server.js").workers(1).with_admin().serve();
    let worker = master.worker(&master.wait(on("spawned")));
    let mut browser = Browser::open();
    browser.visit(&format!("http://{}/", master.admin()));
    let is =
        |state: &str| format!("document.querySelector('#workers tr')?.children[1].textContent === '{state}'");
    browser.wait(&is("serving"));
    worker.signal(Signal::STOP);
    browser.wait(&is("stopped"));
    worker.signal(Signal::CONT);
    browser.wait(&is("serving"));
}

/// What is too faint to be read, of all text of the page: less than 4.5 to 1.
const FAINT: &str = "(() => {
    const channels = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = colour => channels(colour).slice(0, 3).map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = element => {
        for (let it = element; it; it = it.parentElement) {
            const colour = getComputedStyle(it).backgroundColor;
            if ((channels(colour)[3] ?? 1) > 0) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    const faint = [];
    for (const element of document.querySelectorAll('body *')) {
        if (![...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim())) continue;
        if (!element.getClientRects().length) continue;
        const style = getComputedStyle(element);
        const [one, other] = [light(element.ownerSVGElement ? style.fill : style.color), light(behind(element))].sort((a, b) => a - b);
        if ((other + 0.05) / (one + 0.05) < 4.5) faint.push(`${element.tagName} ${element.textContent}`);
    }
    return faint.join('; ');
})()";

#[cfg_attr(not(has = "chromium"), ignore = "chromium is not installed")]
#[test]
fn it_fits_a_phone_and_the_night_also_behind_a_proxy() {
    let master = Launch::fixture("server.js").workers(2).with_admin().serve();
    master.reload().expect_code(0);
    let mut browser = Browser::open();
    let proxy = proxied(Arc::new(Mutex::new(master.admin())), "/ops/shop");
    let paper = "getComputedStyle(document.body).backgroundColor";
    let mut papers = Vec::new();
    // Where the path ends in no slash, its own addresses lead there all the same.
    for (path, scheme, width) in
        [("/ops/shop", "light", 360), ("/ops/shop/", "dark", 320), ("/ops/shop/", "dark", 1280)]
    {
        browser.prefer(scheme);
        browser.resize(width, 800, width < 400);
        browser.visit(&format!("http://{proxy}{path}"));
        browser.wait("document.querySelectorAll('#workers tr').length === 2");
        browser.wait("document.querySelector('#events li') && document.querySelector('path.series')");
        // Without --worker-metrics http nobody counts them.
        browser.wait("document.querySelector('#absent').textContent.includes('Requests')");
        let wide = browser.value("document.documentElement.scrollWidth").as_u64();
        assert!(wide.is_some_and(|wide| wide <= width.into()), "{wide:?}: it scrolls to the side");
        assert_eq!(browser.value(FAINT), "", "{scheme}");
        assert_eq!(browser.value("document.querySelector('footer a').pathname"), "/ops/shop/metrics");
        papers.push(browser.value(paper));
    }
    assert_ne!(papers[0], papers[1], "day and night");
    assert_eq!(browser.faults(), [""; 0]);
}

/// By a name that its owner has mean this machine, as in DNS rebinding.
#[cfg_attr(not(has = "chromium"), ignore = "chromium is not installed")]
#[test]
fn a_page_elsewhere_reads_nothing_by_a_name_of_its_own() {
    let master = Launch::fixture("server.js").workers(1).with_admin().serve();
    let at = master.admin();
    for path in ["/", "/history", "/status"] {
        let mut connection = Connection::open(at).expect("it listens");
        connection
            .send(format!("GET {path} HTTP/1.1\r\nHost: evil.example:{}\r\n\r\n", at.port()))
            .expect("it reads");
        assert_eq!(connection.response().expect("an answer").status, 403, "{path}");
    }
    let mut browser = Browser::open();
    browser.visit(&format!("http://evil.example:{}/", at.port()));
    browser.wait("document.body.textContent.includes('this Host is not allowed')");
    let status = browser.value("fetch('/status').then(answer => answer.status)");
    assert_eq!(status, 403);
}

/// At the address that the page knows, a master ends and another one begins.
#[cfg_attr(not(has = "chromium"), ignore = "chromium is not installed")]
#[test]
fn a_master_that_has_gone_is_missed_and_the_next_one_is_shown_from_its_beginning() {
    let home = Home::new();
    let launch = || Launch::fixture("server.js").workers(1).home(&home).with_admin();
    let mut first = launch().serve();
    first.reload().expect_code(0);
    let target = Arc::new(Mutex::new(first.admin()));
    let proxy = proxied(Arc::clone(&target), "");
    let mut browser = Browser::open();
    browser.visit(&format!("http://{proxy}/"));
    let shows = |master: &Master| {
        let pid = master.process().pid();
        format!("document.querySelector('[data-fact=Master] dd').textContent === 'pid {pid}'")
    };
    browser.wait(&shows(&first));
    browser.wait("document.querySelector('#events [data-verdict=done]')");
    browser.wait("document.querySelector('#plots .mark.info')");

    first.signal(Signal::TERM);
    first.expect_end(0);
    browser.wait("document.querySelector('.notice.bad p').textContent.startsWith('No answer since ')");
    let second = launch().serve();
    *target.lock().expect("nobody panics") = second.admin();
    browser.wait(&shows(&second));
    browser.wait("document.querySelector('.notice') === null");
    // What the first one did is not shown as if the second one had done it.
    browser.wait("document.querySelector('#events li') && document.querySelector('#plots path.series')");
    let of_first = "document.querySelectorAll('#events [data-verdict=done], #plots .mark').length";
    assert_eq!(browser.value(of_first), 0);
    browser.wait("document.querySelector('[data-fact=Generation] dd').textContent === '1'");
    second.reload().expect_code(0);
    browser.wait("document.querySelector('#events [data-verdict=done]')");
    browser.wait("document.querySelector('#plots .mark.info')");
    // While nobody answers, the browser itself says that.
    let faults: Vec<&String> = browser.faults().iter().filter(|fault| !fault.contains("net::ERR_")).collect();
    assert_eq!(faults, [""; 0]);
}

/// A proxy that has the listener, whichever it is by then, below this path.
fn proxied(to: Arc<Mutex<SocketAddr>>, below: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // A client that has left again is none.
            let to = *to.lock().expect("nobody panics");
            thread::spawn(move || drop(pass(client, to, below)));
        }
    });
    address
}

/// Passes one request on, and its answer back.
fn pass(mut client: TcpStream, to: SocketAddr, below: &str) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default();
    let path = target.strip_prefix(below).map(|path| if path.is_empty() { "/" } else { path });
    // What is elsewhere is not the listener's.
    let path = path.unwrap_or("/elsewhere");
    let mut server = TcpStream::connect(to)?;
    server.write_all(format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n").as_bytes())?;
    std::io::copy(&mut server, &mut client).map(|_| ())
}
