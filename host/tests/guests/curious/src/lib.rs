//! A component that has WASI and looks for what it could reach by it. The option `look` says where; what it finds becomes the error of the
//! exchange, so that tests can read it.

wit_bindgen::generate!({ path: ["../../../../wit", "wit"], world: "test:curious/curious", generate_all });

use exports::ocicrypt::keyprovider::provider::{Guest, PacketInfo, Settings};
use ocicrypt::keyprovider::types::Error;
use wasi::cli::{environment, exit, stdin, stdout};
use wasi::clocks::{monotonic_clock, wall_clock};
use wasi::filesystem::preopens::get_directories;
use wasi::random::insecure::get_insecure_random_bytes;
use wasi::sockets::instance_network::instance_network;
use wasi::sockets::ip_name_lookup::resolve_addresses;
use wasi::sockets::network::IpAddressFamily::{Ipv4, Ipv6};
use wasi::sockets::tcp_create_socket::create_tcp_socket;
use wasi::sockets::udp_create_socket::create_udp_socket;

struct Curious;

impl Guest for Curious {
    fn exchange(settings: Settings, _: Vec<u8>) -> Result<Vec<u8>, Error> {
        let found = settings.options.iter().find(|(name, _)| name == "look").map(|(_, place)| look(place)).unwrap_or_default();
        Err(Error::NoMatchingKey(found))
    }

    fn inspect(_: Vec<u8>) -> Result<Vec<PacketInfo>, Error> {
        Ok(Vec::new())
    }
}

fn look(place: &str) -> String {
    match place {
        "files" => format!("{} folders", get_directories().len()),
        "environment" => {
            let (variables, arguments) = (environment::get_environment(), environment::get_arguments());
            format!("{variables:?} {arguments:?} {:?}", environment::initial_cwd())
        }
        "sockets" => {
            let tcp = [Ipv4, Ipv6].map(|family| create_tcp_socket(family).err());
            let udp = [Ipv4, Ipv6].map(|family| create_udp_socket(family).err());
            format!("{tcp:?} {udp:?} {:?}", resolve_addresses(&instance_network(), "localhost").err())
        }
        "clocks" => {
            let first = (monotonic_clock::now(), wall_clock::now().seconds);
            monotonic_clock::subscribe_duration(20_000_000).block();
            format!("{first:?} {:?}", (monotonic_clock::now(), wall_clock::now().seconds))
        }
        "standard input and output" => {
            let written = stdout::get_stdout().blocking_write_and_flush(b"written by a component\n").is_ok();
            format!("{written} {:?}", stdin::get_stdin().blocking_read(1).is_err())
        }
        "much randomness" => format!("{}", get_insecure_random_bytes(1 << 30).len()),
        "streams without end" => {
            let streams: Vec<_> = (0..1_000_000).map(|_| stdout::get_stdout()).collect();
            format!("{}", streams.len())
        }
        "a long sleep" => {
            monotonic_clock::subscribe_duration(u64::MAX).block();
            "slept".into()
        }
        "memory" => format!("{} bytes", std::hint::black_box(vec![1_u8; 8 << 20]).len()),
        "an end" => loop {
            std::hint::black_box(0);
        },
        "the end of the process" => {
            exit::exit(Ok(()));
            "still here".into()
        }
        unknown => format!("no place is called {unknown}"),
    }
}

export!(Curious);
