//! All attacks. A new message, command or option that lets others in means a new row here: `coverage` does not compile, or fails,
//! without it.

use crate::attack::{Attack, By, DEAF, LEAVES, NOTIFIES, PASSES, READS, STAYS};

/// The groups, each of which has a siege of its own.
pub(crate) const GROUPS: [&[Attack]; 10] =
    [CHANNEL, BESIDE, OUTPUT, NOTIFY, CONTROL, RELOADS, UPGRADES, ADMIN, NETWORK, LOG];

/// What a worker says on its channel: at least one row for each message that is known.
pub(crate) const CHANNEL: &[Attack] = &[
    Attack::new("online", READS, &[r#"{"cmd":"NODE_CLUSTER","act":"online","seq":<n>}"#], "said once"),
    Attack::new(
        "listens without end",
        READS,
        &[concat!(
            r#"{"cmd":"NODE_CLUSTER","act":"queryServer","seq":<n>,"index":1<n>,"data":"<x*2000>","#,
            r#""address":"127.0.0.1","port":0,"addressType":4}"#
        )],
        "each worker's share of the servers of all",
    ),
    Attack::new(
        "listens and hears no answer",
        DEAF,
        &[concat!(
            r#"{"cmd":"NODE_CLUSTER","act":"queryServer","seq":<n>,"index":1<n>,"data":"<x*2000>","#,
            r#""address":"127.0.0.1","port":0,"addressType":4}"#
        )],
        "what waits for one worker; then it is cut off",
    ),
    Attack::new(
        "names places without end",
        READS,
        &[
            r#"{"cmd":"NODE_CLUSTER","act":"listening","seq":1,"index":0,"address":"/<n><x*4000>","port":-1,"addressType":-1}"#,
        ],
        "how much of what it names is remembered",
    ),
    Attack::new(
        "closes what it never had",
        READS,
        &[r#"{"cmd":"NODE_CLUSTER","act":"close","seq":<n>,"key":"<n><x*4000>"}"#],
        "a key that is not known is not kept",
    ),
    Attack::new(
        "takes what it was never sent",
        READS,
        &[r#"{"cmd":"NODE_CLUSTER","ack":<n>,"accepted":true,"seq":<n>}"#],
        "a number that is not known is not kept",
    ),
    Attack::new(
        "leaves and stays",
        DEAF,
        &[r#"{"cmd":"NODE_CLUSTER","act":"exitedAfterDisconnect","seq":<n>}"#],
        "what waits for one worker; then it is cut off",
    ),
    Attack::new(
        "passes descriptors",
        PASSES,
        &[r#"{"cmd":"NODE_HANDLE","type":"net.Socket","msg":{"take":"this"}}"#],
        "each is closed at once",
    ),
    Attack::new("has got a handle", READS, &[r#"{"cmd":"NODE_HANDLE_ACK"}"#], "it is cut off"),
    Attack::new("has lost a handle", READS, &[r#"{"cmd":"NODE_HANDLE_NACK"}"#], "it is cut off"),
    Attack::new(
        "counts sockets and hears no answer",
        DEAF,
        &[r#"{"cmd":"NODE_SOCKET_GET_COUNT","key":"<x*4000>"}"#],
        "what waits for one worker; then it is cut off",
    ),
    Attack::new(
        "awaits the end of sockets and hears no answer",
        DEAF,
        &[r#"{"cmd":"NODE_SOCKET_NOTIFY_CLOSE","key":"<x*4000>"}"#],
        "what waits for one worker; then it is cut off",
    ),
    Attack::new(
        "holds",
        READS,
        &[r#"{"cmd":"NODE_RECLUSTER_HELD","connections":<n>,"upgraded":4294967295,"requests":4294967295}"#],
        "it pays for each; the last is kept",
    ),
    Attack::new(
        "says farewell",
        READS,
        &[concat!(
            r#"{"cmd":"NODE_RECLUSTER_FAREWELL","alive":{"a<x*40>":1,"b<x*40>":1,"c<x*40>":1,"d<x*40>":1,"#,
            r#""e<x*40>":1,"f<x*40>":1,"g<x*40>":1,"h<x*40>":1},"handles":true}"#
        )],
        "it pays for each; the last is kept",
    ),
    Attack::new(
        "keeps connections for ever",
        READS,
        &[r#"{"cmd":"NODE_RECLUSTER_KEEPS","timeout":1844674407370955<n>}"#],
        "it pays for each; the last is kept",
    ),
    Attack::new(
        "counts its connections",
        READS,
        &[
            r#"{"cmd":"NODE_RECLUSTER_TAKEN","connections":18446744073709551615,"open":18446744073709551615,"lately":4294967295,"lasting":4294967295}"#,
        ],
        "the last is kept, and sums do not overflow",
    ),
    Attack::new(
        "lies about itself",
        READS,
        &[
            concat!(
                r#"{"cmd":"NODE_RECLUSTER_MEASURES","measures":{"version":[4294967295,0,0],"utilization":4294967295,"#,
                r#""memory":{"used":18446744073709551615,"total":0,"external":1},"active":{"<n>":4294967295,"<x*90>":1},"#,
                r#""gc":[{"sum":18446744073709551615,"buckets":[18446744073709551615,0,0,0,0,0,18446744073709551615]},"#,
                r#"{"sum":0,"buckets":[0,0,0,0,0,0,0]},{"sum":0,"buckets":[0,0,0,0,0,0,0]},{"sum":0,"buckets":[0,0,0,0,0,0,0]}],"#,
                r#""http":{"codes":[0,18446744073709551615,0,0,18446744073709551615,0],"spans":{"sum":18446744073709551615,"#,
                r#""buckets":[18446744073709551615,<n>,0,0,0,0,0,0,0,0,0,0,0,18446744073709551615]}}}}"#
            ),
            r#"{"cmd":"NODE_RECLUSTER_MEASURES","measures":{"version":[1,2,3],"utilization":-1,"memory":null,"active":{}}}"#,
            r#"{"cmd":"NODE_RECLUSTER_MEASURES","measures":{"active":{"<x*9000>":NaN}}}"#,
        ],
        "the last is kept, as numbers of which there are as many whatever it says; sums do not overflow",
    ),
    Attack::new(
        "has no cache",
        READS,
        &[r#"{"cmd":"NODE_RECLUSTER_CACHE_OFF","reason":"<n><x*200>"}"#],
        "it pays for each; the last is kept",
    ),
    Attack::new(
        "tells what was on its stderr",
        READS,
        &[r#"{"cmd":"NODE_RECLUSTER_STDERR","text":"<n><x*16000>"}"#],
        "it pays for each; the last of it is kept",
    ),
    Attack::new("leaves", READS, &[r#"{"cmd":"NODE_RECLUSTER_LEAVES"}"#], "said once"),
    Attack::new(
        "answers what was not asked",
        READS,
        &[r#"{"cmd":"NODE_RECLUSTER_PONG"}"#],
        "nothing is kept",
    ),
    Attack::new(
        "says something",
        READS,
        &[r#"{"said":"<n><x*50000>"}"#],
        "it pays for each; only its length is kept",
    ),
    Attack::new("says too much", READS, &[r#"{"said":"<x*2000000>"}"#], "it is looked through and not kept"),
    Attack::new(
        "says what nobody knows",
        READS,
        &[r#"{"cmd":"NODE_<n>","said":"<x*50000>"}"#],
        "nothing is kept",
    ),
    Attack::new(
        "says nonsense",
        DEAF,
        &[
            r#"{"cmd":"NODE_CLUSTER","act":"queryServer","seq":<n>,"index":-1,"data":"<x*2000>"}"#,
            "[[[[[[[[[[[[[[[[",
        ],
        "what waits for one worker; then it is cut off",
    ),
];

/// What a worker can do besides saying a whole message.
pub(crate) const BESIDE: &[Attack] = &[
    Attack::new("a line without an end", READS, &["<x*1000000><more>"], "it is looked through and not kept"),
    Attack::new(
        "a message between master and worker without an end",
        READS,
        &[r#"{"cmd":"NODE_CLUSTER","act":"<x*4000><more>"#],
        "the longest line of a worker; then it is cut off",
    ),
    Attack::new(
        "descriptors that no message names",
        PASSES,
        &[r#"{"plain":"message"}"#],
        "how many may wait for their message; then it is cut off",
    ),
    Attack::new(
        "dies with a long last word",
        By::Stderr { dies_after: Some(20) },
        &["<n><x*1000>"],
        "how much of the last words is kept, and the log's bytes",
    ),
    Attack::new(
        "dies at once",
        By::Channel { descriptors: 0, reads: true, dies_after: Some(1) },
        &[r#"{"cmd":"ready"}"#],
        "it is started again after a while",
    ),
    Attack::new(
        "writes to its stderr without end",
        By::Stderr { dies_after: None },
        &["<n><x*4000>", "<x*1000000>"],
        "each worker's share of what may wait for the reader",
    ),
];

/// What a worker writes to its stdout where that passes through the master, whose own stdout nobody reads.
pub(crate) const OUTPUT: &[Attack] = &[
    Attack::new(
        "writes to its stdout without end",
        By::Stdout { dies_after: None },
        &["<n><x*4000>", "<x*1000000>"],
        "each worker's share of what may wait for the reader, and of the last lines",
    ),
    Attack::new(
        "writes a line without an end to its stdout",
        By::Stdout { dies_after: None },
        &["<x*1000000><more>"],
        "the longest line",
    ),
    Attack::new(
        "writes short lines to its stdout",
        By::Stdout { dies_after: None },
        &["", "<n>"],
        "what a line costs beside its bytes",
    ),
    Attack::new(
        "dies with a long last word on its stdout",
        By::Stdout { dies_after: Some(20) },
        &["<n><x*1000>"],
        "how much of workers that have ended may wait",
    ),
];

/// What a worker says by `sd_notify`: at least one row for each word that is known.
pub(crate) const NOTIFY: &[Attack] = &[
    Attack::new("notifies: ready", NOTIFIES, &["READY=1"], "how many may wait unheard"),
    Attack::new("notifies: status", NOTIFIES, &["STATUS=<n> <x*4000>"], "the last is kept, cut"),
    Attack::new("notifies: stopping", NOTIFIES, &["STOPPING=1"], "how many may wait unheard"),
    Attack::new("notifies: reloading", NOTIFIES, &["RELOADING=1"], "how many may wait unheard"),
    Attack::new("notifies: monotonic", NOTIFIES, &["MONOTONIC_USEC=18446744073709551615"], "nothing is kept"),
    Attack::new("notifies: watchdog", NOTIFIES, &["WATCHDOG=1"], "the last is kept"),
    Attack::new("notifies: watchdog trigger", NOTIFIES, &["WATCHDOG=trigger"], "it is replaced"),
    Attack::new(
        "notifies: watchdog timeout",
        NOTIFIES,
        &["WATCHDOG_USEC=18446744073709551615"],
        "the last is kept",
    ),
    Attack::new(
        "notifies: store",
        By::Notify { descriptors: 8 },
        &["FDSTORE=1\nFDNAME=<x*3000>"],
        "each is closed when it was heard",
    ),
    Attack::new("notifies: unstore", NOTIFIES, &["FDSTOREREMOVE=1"], "nothing is kept"),
    Attack::new(
        "notifies: barrier",
        By::Notify { descriptors: 1 },
        &["BARRIER=1"],
        "it is closed when it was heard",
    ),
    Attack::new("notifies: main pid", NOTIFIES, &["MAINPID=4294967295"], "nothing is kept"),
    Attack::new("notifies: errno", NOTIFIES, &["ERRNO=2147483647"], "nothing is kept"),
    Attack::new(
        "notifies: extend",
        NOTIFIES,
        &["EXTEND_TIMEOUT_USEC=18446744073709551615"],
        "nothing is kept",
    ),
    Attack::new("notifies: too much", NOTIFIES, &["STATUS=<x*60000>"], "the longest datagram"),
    Attack::new("notifies: nonsense", By::Notify { descriptors: 8 }, &["\u{0}\u{0}"], "nothing is kept"),
];

/// What clients of the control socket ask for: at least one row for each request.
pub(crate) const CONTROL: &[Attack] = &[
    Attack::new("asks for nothing", STAYS, &[], "how many clients there may be"),
    Attack::new("half of the longest request", STAYS, &["<x*262000><more>"], "the bytes of all clients"),
    Attack::new("a request without an end", STAYS, &["<x*1000000><more>"], "the longest request"),
    Attack::new("asks for nonsense", STAYS, &["\u{0}<x*100000>"], "the longest request"),
    Attack::new(
        "reads no status",
        STAYS,
        &[r#"{"version":1,"request":"status"}"#],
        "how many answers are written at once, and their bytes",
    ),
    Attack::new(
        "asks for the status and leaves",
        LEAVES,
        &[r#"{"version":1,"request":"status"}"#],
        "how many answers are written at once",
    ),
    Attack::new(
        "asks for the config file and reads no answer",
        STAYS,
        &[r#"{"version":1,"request":"configuration","diff":true}"#],
        "how many may wait; one at a time has the file read",
    ),
    Attack::new(
        "follows events and reads none",
        STAYS,
        &[r#"{"version":1,"request":"events","follow":true}"#],
        "how many follow, and what of the last events is kept for all",
    ),
    Attack::new(
        "asks for events and leaves",
        LEAVES,
        &[r#"{"version":1,"request":"events","last":4294967295}"#],
        "what of the last events is kept for all",
    ),
    Attack::new(
        "follows the lines of workers and reads none",
        STAYS,
        &[r#"{"version":1,"request":"logs","follow":true}"#],
        "how many follow, what of the last lines is kept for all, and the longest piece of them",
    ),
    Attack::new(
        "asks for the lines of workers and leaves",
        LEAVES,
        &[r#"{"version":1,"request":"logs","last":4294967295}"#],
        "what of the last lines is kept for all",
    ),
    Attack::new(
        "replaces what is not there",
        STAYS,
        &[r#"{"version":1,"request":"replace","slot":4294967295}"#],
        "refused",
    ),
    Attack::new(
        "asks without waiting for answers",
        STAYS,
        &[r#"{"version":1,"request":"status"}"#, r#"{"version":1,"request":"status"}"#],
        "one request at a time",
    ),
    Attack::new(
        "scales to absurd numbers",
        STAYS,
        &[r#"{"version":1,"request":"scale_to","workers":4294967295}"#],
        "refused",
    ),
    Attack::new(
        "scales up and down",
        LEAVES,
        &[r#"{"version":1,"request":"scale_by","workers":0}"#],
        "nothing is kept",
    ),
    Attack::new(
        "upgrades to what is no program",
        STAYS,
        &[r#"{"version":1,"request":"upgrade","binary":"/dev/zero","wait":true}"#],
        "one upgrade at a time, and who waits for one has a place of those who wait",
    ),
    Attack::new("stops", By::ControlEnds, &[r#"{"version":1,"request":"stop"}"#], "it may"),
    Attack::new("terminates", By::ControlEnds, &[r#"{"version":1,"request":"terminate"}"#], "it may"),
];

/// Clients of the control socket that have every worker replaced, again and again. They may; so this is no part of the siege by all
/// together, in which good workers are to serve all the time.
pub(crate) const RELOADS: &[Attack] = &[
    Attack::new(
        "waits for a reload",
        STAYS,
        &[r#"{"version":1,"request":"reload","wait":true,"env":{"A":"<n><x*30000>"}}"#],
        "how many may wait, and the bytes of all variables",
    ),
    Attack::new(
        "replaces a worker and waits for it",
        STAYS,
        &[r#"{"version":1,"request":"replace","slot":0}"#],
        "how many may wait; one at a time is replaced",
    ),
    Attack::new(
        "reloads and leaves",
        LEAVES,
        &[r#"{"version":1,"request":"reload","wait":false,"env":{"A":"<n><x*30000>"}}"#],
        "a newer reload takes the place of an older one",
    ),
    Attack::new(
        "asks for ten thousand reloads",
        STAYS,
        &[r#"{"version":1,"request":"reload","wait":false}"#; 10_000],
        "all that come while a reload runs are one; each request is read when the one before is answered",
    ),
];

/// Clients of the control socket that have the master upgraded, again and again. They may.
pub(crate) const UPGRADES: &[Attack] = &[
    Attack::new(
        "upgrades and waits for it",
        STAYS,
        &[r#"{"version":1,"request":"upgrade","wait":true}"#],
        "one upgrade at a time",
    ),
    Attack::new(
        "tries an upgrade and leaves",
        LEAVES,
        &[r#"{"version":1,"request":"upgrade","dry_run":true}"#],
        "one dry run at a time",
    ),
    Attack::new(
        "has said half of a long request when the program changes",
        STAYS,
        &[r#"{"version":1,"request":"reload","env":{"A":"<x*200000><more>"#],
        "all long requests have 4 MiB, and pass as bytes",
    ),
];

/// What clients of the admin listener do (`--admin`).
pub(crate) const ADMIN: &[Attack] = &[
    Attack::new("admin: asks for nothing", By::Admin { leaves: false }, &[], "how many clients there may be"),
    Attack::new(
        "admin: a head that comes slowly",
        By::Admin { leaves: false },
        &["GET /metrics HTTP/1.1\r\nX: <x*3000><more>"],
        "how long a head may take, and how many clients there may be",
    ),
    Attack::new(
        "admin: a head without an end",
        By::Admin { leaves: false },
        &["GET /metrics HTTP/1.1\r\nX: <x*1000000><more>"],
        "the longest head",
    ),
    Attack::new(
        "admin: headers without end",
        By::Admin { leaves: false },
        &[
            "GET /metrics HTTP/1.1\r\nA:b\r\nA:b\r\nA:b\r\nA:b\r\n<more>",
            "A:b\r\nA:b\r\nA:b\r\nA:b\r\n<more>",
        ],
        "how many lines a head has",
    ),
    Attack::new(
        "admin: a body without an end",
        By::Admin { leaves: false },
        &["POST /reload HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n<x*60000><more>"],
        "no body is kept",
    ),
    Attack::new(
        "admin: reads no metrics",
        By::Admin { leaves: false },
        &["GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n<more>"],
        "the bytes of all answers that are not read",
    ),
    Attack::new(
        "admin: reads no history and no page",
        By::Admin { leaves: false },
        &["GET /history HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n<more>"],
        "the bytes of the history, and of all answers that are not read",
    ),
    Attack::new(
        "admin: asks for histories that there are not",
        By::Admin { leaves: true },
        &[
            "GET /history?since=<n> HTTP/1.1\r\nHost: a\r\n\r\nGET /history?since=<x*3000> HTTP/1.1\r\nHost: a\r\n\r\n<more>",
        ],
        "who knows little of the history shares the whole",
    ),
    Attack::new(
        "admin: asks again and again without reading",
        By::Admin { leaves: false },
        &[concat!(
            "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\nGET /status HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\nGET /readyz HTTP/1.1\r\nHost: a\r\n\r\n<more>"
        )],
        "one request at a time",
    ),
    Attack::new(
        "admin: asks and leaves",
        By::Admin { leaves: true },
        &["GET /status HTTP/1.1\r\nHost: a\r\n\r\n<more>"],
        "all who ask at once share one picture",
    ),
    Attack::new(
        "admin: wants changes without the token",
        By::Admin { leaves: false },
        &["POST /terminate HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer <x*100>\r\n\r\n<more>"],
        "refused",
    ),
    Attack::new("admin: nonsense", By::Admin { leaves: false }, &["\u{16}\u{3}\u{1}<x*500>"], "refused"),
];

/// What clients of the server do.
pub(crate) const NETWORK: &[Attack] = &[
    Attack::new(
        "connects and is silent",
        By::Network { resets: false },
        &[],
        "how many connections are on their way",
    ),
    Attack::new(
        "begins a request",
        By::Network { resets: false },
        &["GET / HTTP/1.1\r\nHost: x\r\nX-Client: <n><x*3000><more>"],
        "how many first bytes are looked at, and for how long",
    ),
    Attack::new("resets its connection", By::Network { resets: true }, &["GET /<more>"], "it is forgotten"),
];

/// What becomes of the log.
pub(crate) const LOG: &[Attack] = &[Attack::new(
    "the log is not read",
    By::Log,
    &[],
    "how many lines wait, and their bytes; others are counted",
)];
