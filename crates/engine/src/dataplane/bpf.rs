//! The programs that the kernel runs for us: one chooses a socket of a group (`SO_REUSEPORT`) for every new connection, by its
//! place in the group; another lets no connection begin at a socket that is about to be closed.
//!
//! They are classic BPF, which needs no privilege. Jumps go forward only, and a program has at most 4,096 instructions. A
//! kernel before 6.7 has room for about 2,500 of its own, into which it translates them.

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_MISC, BPF_MOD,
    BPF_MUL, BPF_RET, BPF_RSH, BPF_TAX, BPF_W, BPF_X, BPF_XOR, SKF_AD_OFF, SKF_AD_RANDOM, SKF_NET_OFF,
    sock_filter,
};

use super::client_hash::{BUCKET_SHIFT, MULTIPLIERS, SHIFTS};

/// The most places among which a program can choose: two instructions for each, and two before them.
const MOST_PLACES: usize = 2000;

/// The first half of the first byte of an IP packet is its version.
const VERSION: u32 = 0xf0;
const VERSION_6: u32 = 0x60;
/// Where the source address stands in a packet of IPv4, and of IPv6.
const SOURCE_4: i32 = 12;
const SOURCE_6: i32 = 8;

/// Where the flags stand in the header of TCP, and two of them.
const TCP_FLAGS: u32 = 13;
const SYN: u32 = 0x02;
const ACK: u32 = 0x10;

/// What the kernel runs.
#[derive(Debug, Default)]
pub(crate) struct Program(Vec<sock_filter>);

impl Program {
    /// Chooses any of these places, at random.
    pub(super) fn any_of(places: &[u32]) -> Self {
        let mut program = Self::default();
        let places = places.get(..MOST_PLACES).unwrap_or(places);
        let [rest @ .., last] = places else { return program };
        program.emit(BPF_LD | BPF_W | BPF_ABS, (SKF_AD_OFF + SKF_AD_RANDOM).cast_unsigned());
        let modulo = program.0.len();
        program.emit(BPF_ALU | BPF_MOD | BPF_K, 1);
        for (number, place) in (0..).zip(rest) {
            program.jump(BPF_JEQ, number, 0, 1);
            program.emit(BPF_RET | BPF_K, *place);
            if let Some(modulo) = program.0.get_mut(modulo) {
                modulo.k = number + 2;
            }
        }
        program.emit(BPF_RET | BPF_K, *last);
        program
    }

    /// Chooses the place of the bucket that the client at the source address is in ([`Client::at`](super::client_hash::Client::at)).
    pub(super) fn by_source(place_of_bucket: &[u32]) -> Self {
        let source = |at: i32| (SKF_NET_OFF + at).cast_unsigned();
        let mut program = Self::default();
        program.emit(BPF_LD | BPF_B | BPF_ABS, source(0));
        program.emit(BPF_ALU | BPF_AND | BPF_K, VERSION);
        program.jump(BPF_JEQ, VERSION_6, 2, 0);
        program.emit(BPF_LD | BPF_W | BPF_ABS, source(SOURCE_4));
        let to_the_end = program.0.len();
        program.emit(BPF_JMP | BPF_JA, 0);
        program.emit(BPF_LD | BPF_W | BPF_ABS, source(SOURCE_6));
        program.mix();
        program.emit(BPF_MISC | BPF_TAX, 0);
        program.emit(BPF_LD | BPF_W | BPF_ABS, source(SOURCE_6 + 4));
        program.emit(BPF_ALU | BPF_XOR | BPF_X, 0);
        program.land(to_the_end);
        program.mix();
        program.emit(BPF_ALU | BPF_RSH | BPF_K, BUCKET_SHIFT);
        program.search(&runs(place_of_bucket));
        program
    }

    /// Lets everything through to a TCP socket but what would begin a connection.
    pub(super) fn no_beginnings() -> Self {
        let mut program = Self::default();
        program.emit(BPF_LD | BPF_B | BPF_ABS, TCP_FLAGS);
        program.emit(BPF_ALU | BPF_AND | BPF_K, SYN | ACK);
        program.jump(BPF_JEQ, SYN, 0, 1);
        program.emit(BPF_RET | BPF_K, 0);
        program.emit(BPF_RET | BPF_K, u32::MAX);
        program
    }

    /// Its instructions.
    pub(crate) fn instructions(&mut self) -> &mut [sock_filter] {
        &mut self.0
    }

    fn emit(&mut self, code: u32, k: u32) {
        self.push(code, 0, 0, k);
    }

    /// Compares the accumulator, and skips this many instructions.
    fn jump(&mut self, how: u32, k: u32, if_true: u8, if_false: u8) {
        self.push(BPF_JMP | how | BPF_K, if_true, if_false, k);
    }

    fn push(&mut self, code: u32, jt: u8, jf: u8, k: u32) {
        // Codes are sums of small constants.
        let code = u16::try_from(code).unwrap_or_default();
        self.0.push(sock_filter { code, jt, jf, k });
    }

    /// Has the jump at this place lead to the next instruction.
    fn land(&mut self, jump: usize) {
        let skipped = self.0.len().saturating_sub(jump + 1);
        if let (Some(jump), Ok(skipped)) = (self.0.get_mut(jump), u32::try_from(skipped)) {
            jump.k = skipped;
        }
    }

    /// Spreads the number in the accumulator.
    fn mix(&mut self) {
        for (number, shift) in SHIFTS.into_iter().enumerate() {
            self.emit(BPF_MISC | BPF_TAX, 0);
            self.emit(BPF_ALU | BPF_RSH | BPF_K, shift);
            self.emit(BPF_ALU | BPF_XOR | BPF_X, 0);
            if let Some(&multiplier) = MULTIPLIERS.get(number) {
                self.emit(BPF_ALU | BPF_MUL | BPF_K, multiplier);
            }
        }
    }

    /// Finds the run that the bucket in the accumulator is in, by binary search. (A conditional jump reaches 255 instructions; an
    /// unconditional one, any.)
    fn search(&mut self, runs: &[(u32, u32)]) {
        let (lower, upper) = runs.split_at(runs.len() / 2);
        match (lower, upper) {
            ([], [(_, place)]) => self.emit(BPF_RET | BPF_K, *place),
            (_, [(begin, _), ..]) => {
                let mut below = Self::default();
                below.search(lower);
                if let Ok(length) = u8::try_from(below.0.len()) {
                    self.jump(BPF_JGE, *begin, length, 0);
                } else {
                    self.jump(BPF_JGE, *begin, 0, 1);
                    self.emit(BPF_JMP | BPF_JA, u32::try_from(below.0.len()).unwrap_or_default());
                }
                self.0.append(&mut below.0);
                self.search(upper);
            }
            (_, []) => {}
        }
    }
}

/// Runs of buckets of the same place: where each begins, and its place.
fn runs(places: &[u32]) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for (bucket, &place) in (0..).zip(places) {
        if runs.last().is_none_or(|&(_, last)| last != place) {
            runs.push((bucket, place));
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read as _, Write as _};
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
    use std::os::fd::AsFd as _;
    use std::time::Duration;

    use socket2::{Domain, Socket, Type};

    use super::super::client_hash::{BUCKETS, Client, Table};
    use super::*;
    use crate::sys::{self, Hook};

    /// The bytes of a packet that tell where it comes from.
    fn packet_from(address: IpAddr) -> Vec<u8> {
        let mut packet = vec![0; 40];
        match address {
            IpAddr::V4(address) => {
                packet[0] = 0x45;
                packet[12..16].copy_from_slice(&address.octets());
            }
            IpAddr::V6(address) => {
                packet[0] = 0x60;
                packet[8..24].copy_from_slice(&address.octets());
            }
        }
        packet
    }

    /// What the kernel would do.
    fn run(program: &Program, packet: &[u8]) -> u32 {
        let (mut a, mut x, mut at) = (0_u32, 0_u32, 0_usize);
        loop {
            let sock_filter { code, jt, jf, k } = program.0[at];
            let offset = k.wrapping_sub(SKF_NET_OFF.cast_unsigned()) as usize;
            at += 1;
            match u32::from(code) {
                code if code == BPF_LD | BPF_B | BPF_ABS => a = packet[offset].into(),
                code if code == BPF_LD | BPF_W | BPF_ABS => {
                    a = u32::from_be_bytes(packet[offset..offset + 4].try_into().unwrap());
                }
                code if code == BPF_ALU | BPF_AND | BPF_K => a &= k,
                code if code == BPF_ALU | BPF_RSH | BPF_K => a >>= k,
                code if code == BPF_ALU | BPF_XOR | BPF_X => a ^= x,
                code if code == BPF_ALU | BPF_MUL | BPF_K => a = a.wrapping_mul(k),
                code if code == BPF_MISC | BPF_TAX => x = a,
                code if code == BPF_JMP | BPF_JA => at += k as usize,
                code if code == BPF_JMP | BPF_JEQ | BPF_K => at += usize::from(if a == k { jt } else { jf }),
                code if code == BPF_JMP | BPF_JGE | BPF_K => at += usize::from(if a >= k { jt } else { jf }),
                code if code == BPF_RET | BPF_K => return k,
                code => panic!("unknown instruction {code:#x}"),
            }
        }
    }

    fn addresses() -> impl Iterator<Item = IpAddr> {
        let number = |seed: u32| u128::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let v4 = (0..500).map(|seed: u32| Ipv4Addr::from(seed.wrapping_mul(0x9e37_79b9)).into());
        v4.chain((0..500).map(move |seed| Ipv6Addr::from(number(seed)).into()))
    }

    #[test]
    fn the_kernel_finds_the_slot_that_we_find() {
        for slots in [1, 2, 3, 8, 32, 100, 512] {
            let table = Table::new((0..slots).collect());
            let program = Program::by_source(table.owners());
            assert!(size_in_kernel(&program) <= OPTMEM, "{slots} slots: {} bytes", size_in_kernel(&program));
            for address in addresses() {
                assert_eq!(Some(run(&program, &packet_from(address))), table.slot_of(Client::at(address)));
            }
        }
    }

    /// How much memory a socket of a kernel before 6.7 has for programs and the like (`net.core.optmem_max`).
    const OPTMEM: usize = 20_480;

    /// The kernel translates what it is given: a jump or a sum is one instruction of eight bytes, a return two, and a load of
    /// a packet's byte about ten.
    fn size_in_kernel(program: &Program) -> usize {
        let instructions = program.0.iter().map(|it| match u32::from(it.code) & 0x07 {
            BPF_RET => 2,
            BPF_LD => 10,
            _ => 1,
        });
        instructions.sum::<usize>() * 8
    }

    #[test]
    fn the_longest_programs_are_short_enough() {
        let places: Vec<u32> = (0..).take(BUCKETS).collect();
        assert!(size_in_kernel(&Program::by_source(&places)) <= OPTMEM);
        assert!(Program::any_of(&(0..5000).collect::<Vec<u32>>()).0.len() <= 4096);
    }

    /// Sockets that share an address, in order of their places.
    fn group(address: IpAddr, size: usize) -> Option<Vec<TcpListener>> {
        let mut port = 0;
        let mut sockets = Vec::new();
        for _ in 0..size {
            let address = SocketAddr::new(address, port);
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).ok()?;
            socket.set_reuse_port(true).unwrap();
            socket.bind(&address.into()).ok()?;
            socket.listen(8).unwrap();
            socket.set_nonblocking(true).unwrap();
            port = socket.local_addr().unwrap().as_socket().unwrap().port();
            sockets.push(TcpListener::from(socket));
        }
        Some(sockets)
    }

    /// Connects from one address to another; the place of the socket that got it.
    fn place_for(from: IpAddr, to: IpAddr, sockets: &[TcpListener]) -> u32 {
        let port = sockets[0].local_addr().unwrap().port();
        let socket = Socket::new(Domain::for_address((to, port).into()), Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        socket.connect(&SocketAddr::new(to, port).into()).unwrap();
        let mut places = (0..).zip(sockets).filter(|(_, socket)| socket.accept().is_ok());
        places.next().expect("it was connected").0
    }

    #[test]
    fn the_real_kernel_goes_by_the_source_address() {
        let table = Table::new((0..3).collect());
        let v4 = |number: u8| IpAddr::from([127, 0, 0, number]);
        let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
        let many: Vec<IpAddr> = (1..60).map(v4).collect();
        // The last one is asked by IPv4 as well as by IPv6.
        for (server, clients, to) in
            [("127.0.0.1", &many[..], v4(1)), ("::1", &[v6], v6), ("::", &many, v4(1)), ("::", &[v6], v6)]
        {
            let Some(sockets) = group(server.parse().unwrap(), 3) else {
                // There is no IPv6 here.
                continue;
            };
            let mut program = Program::by_source(table.owners());
            sys::attach(sockets[0].as_fd(), Hook::Group, program.instructions()).unwrap();
            for &from in clients {
                assert_eq!(
                    Some(place_for(from, to, &sockets)),
                    table.slot_of(Client::at(from)),
                    "from {from}"
                );
            }
        }
    }

    #[test]
    fn what_has_begun_goes_on_and_nothing_else_begins() {
        let [socket] = &group(Ipv4Addr::LOCALHOST.into(), 1).expect("there is IPv4")[..] else {
            unreachable!()
        };
        let address = socket.local_addr().unwrap();
        let mut before = TcpStream::connect(address).unwrap();
        let mut program = Program::no_beginnings();
        sys::attach(socket.as_fd(), Hook::Socket, program.instructions()).unwrap();
        let refused = TcpStream::connect_timeout(&address, Duration::from_millis(50)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        let (mut accepted, _) = socket.accept().unwrap();
        accepted.set_nonblocking(false).unwrap();
        before.write_all(b"12").unwrap();
        let mut read = [0; 2];
        accepted.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"12");
    }

    #[test]
    fn chance_chooses_all_places_and_no_other() {
        let sockets = group(Ipv4Addr::LOCALHOST.into(), 4).expect("there is IPv4");
        let mut program = Program::any_of(&[0, 1, 3]);
        sys::attach(sockets[0].as_fd(), Hook::Group, program.instructions()).unwrap();
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        let mut chosen: Vec<u32> = (0..100).map(|_| place_for(here, here, &sockets)).collect();
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen, [0, 1, 3]);
    }
}
