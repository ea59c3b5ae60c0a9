//! `inspect` of images that somebody made to keep it busy.

use std::time::{Duration, Instant};

use ocicrypt_kms_testing::program::{Program, refusal, succeeded};

const KEYS: &str = "org.opencontainers.image.enc.keys.provider.kmscrypt";
/// A packet of no key that is here.
const PACKET: &str = "eyJrZXlfdXJsIjoibG9jYWw6Ly9rIiwid3JhcHBlZF9rZXkiOiJZUT09Iiwid3JhcF90eXBlIjoiSldFIn0=";

/// An image layout whose index lists these blobs, each with a name that stands for its digest.
fn layout(user: &Program, listed: &[&str], blobs: &[(&str, String)]) {
    user.write("image/index.json", index(listed));
    for (name, text) in blobs {
        user.write(&format!("image/blobs/sha256/{name}"), text);
    }
}

fn index(listed: &[&str]) -> String {
    let manifests: Vec<_> = listed.iter().map(|name| format!(r#"{{"digest":"sha256:{name}"}}"#)).collect();
    format!(r#"{{"manifests":[{}]}}"#, manifests.join(","))
}

fn manifest(layers: &[String]) -> String {
    format!(r#"{{"layers":[{}]}}"#, layers.join(","))
}

/// A layer with these annotations of the provider.
fn layer(name: &str, annotations: &str) -> String {
    format!(r#"{{"digest":"sha256:{name}","annotations":{{"{KEYS}":"{annotations}"}}}}"#)
}

fn shown(user: &Program) -> String {
    String::from_utf8(succeeded(user.run(&["inspect", "oci:image"], b""))).unwrap()
}

fn refused(user: &Program, arguments: &[&str], input: &[u8]) -> String {
    let begun = Instant::now();
    let (code, line) = refusal(&user.run(arguments, input));
    assert!(code == 2 && line.len() < 1024, "{code}: {} bytes", line.len());
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    line
}

#[test]
fn indexes_that_list_each_other_are_read_once_each() {
    let user = Program::new();
    // Each index lists all of them, many times over, itself too, and the one manifest.
    let names = ["a", "b", "c", "d"];
    let all = index(&[&names[..], &["m"]].concat().repeat(100));
    let mut blobs: Vec<_> = names.iter().map(|name| (*name, all.clone())).collect();
    blobs.push(("m", manifest(&[layer("l", PACKET)])));
    layout(&user, &names, &blobs);
    let begun = Instant::now();
    let text = shown(&user);
    assert_eq!(text.matches("layer sha256:l encrypted").count(), 1, "{text}");
    assert!(text.contains("local://k JWE") || text.contains("nothing that this provider reads"), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_an_image_lists_is_bounded_and_what_is_left_out_is_never_passed_over() {
    let user = Program::new();
    let bound = |listed: &[&str], blobs: &[(&str, String)], says: &str| {
        layout(&user, listed, blobs);
        let line = refused(&user, &["inspect", "oci:image"], b"");
        assert!(line.contains(says), "{says}: {line}");
    };
    // Deeper than is looked at: the layer at the end is encrypted, or isn't, and nobody is told.
    let chain: Vec<_> = (0..8).map(|number| (format!("d{number}"), index(&[&format!("d{}", number + 1)]))).collect();
    let mut deep: Vec<_> = chain.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    deep.push(("d8", manifest(&[layer("l", PACKET)])));
    bound(&["d0"], &deep, "deeper than 4 levels");

    let many: Vec<_> = (0..1100).map(|number| format!("n{number}")).collect();
    let names: Vec<_> = many.iter().map(String::as_str).collect();
    let blobs: Vec<_> = names.iter().map(|name| (*name, manifest(&[]))).collect();
    bound(&names, &blobs, "more than 1024 manifests and indexes");

    bound(&["m"], &[("m", manifest(&vec![layer("l", PACKET); 5000]))], "more than 4096 layers and annotations");
    bound(&["m"], &[("m", manifest(&[layer("l", &",".repeat(3 << 20))]))], "more than 4096 layers and annotations");
    let large: Vec<_> = (0..20).map(|number| format!("b{number}")).collect();
    let names: Vec<_> = large.iter().map(String::as_str).collect();
    let blobs: Vec<_> = names.iter().map(|name| (*name, manifest(&[layer("l", &"A".repeat(4_000_000))]))).collect();
    bound(&names, &blobs, "of more than 67108864 bytes");

    let digest = format!("sha256:{}", "x/".repeat(1 << 20));
    user.write("image/index.json", format!(r#"{{"manifests":[{{"digest":"{digest}"}}]}}"#));
    assert!(refused(&user, &["inspect", "oci:image"], b"").contains("it is not a digest"));
}

#[test]
fn a_manifest_on_standard_input_is_bounded_alike() {
    let user = Program::new();
    let line = refused(&user, &["inspect", "-"], manifest(&vec![layer("l", PACKET); 5000]).as_bytes());
    assert!(line.contains("more than 4096 layers"), "{line}");
    let text = succeeded(user.run(&["inspect", "-"], manifest(&vec![layer("l", PACKET); 50]).as_bytes()));
    assert_eq!(String::from_utf8(text).unwrap().matches("layer sha256:l encrypted").count(), 50);
    // What is longer than an annotation may be isn't given to a sandbox.
    let long = manifest(&[layer("l", &"A".repeat(100_000))]);
    let text = String::from_utf8(succeeded(user.run(&["inspect", "-"], long.as_bytes()))).unwrap();
    assert!(text.contains("nothing that this provider reads: the annotation is longer than 65536 bytes"), "{text}");
}

#[test]
fn a_pipe_in_a_layout_holds_nobody_up() {
    let user = Program::new();
    layout(&user, &["pipe"], &[("m", manifest(&[]))]);
    let made = std::process::Command::new("mkfifo").arg(user.home().join("image/blobs/sha256/pipe")).status().unwrap();
    assert!(made.success());
    assert!(refused(&user, &["inspect", "oci:image"], b"").contains("it is no file"));
}

#[test]
fn what_is_no_manifest_is_an_error_and_an_index_names_its_manifests() {
    let user = Program::new();
    for (input, says) in [
        ("{}", "it has neither `layers` nor `manifests`"),
        ("[]", "no JSON object"),
        ("[[],[]]", "no JSON object"),
        ("", "no JSON object"),
        ("<html>", "no JSON object"),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#, "it has neither `layers` nor `manifests`"),
        (r#"{"architecture":"amd64","rootfs":{"type":"layers"}}"#, "it has neither `layers` nor `manifests`"),
        ("{\n", "line 2"),
        (r#"{"layers":[{}]}"#, "line 1"),
    ] {
        let line = refused(&user, &["inspect", "-"], input.as_bytes());
        assert!(line.contains("it is no image manifest and no index") && line.contains(says), "{input}: {line}");
        user.write("file", input);
        assert!(refused(&user, &["inspect", "file"], b"").contains(says), "{input}");
    }
    let inspect = |input: &str| String::from_utf8(succeeded(user.run(&["inspect", "-"], input.as_bytes()))).unwrap();
    let index =
        r#"{"manifests":[{"digest":"sha256:a","platform":{"os":"linux","architecture":"arm64","variant":"v8"}},{"digest":"sha256:b"}]}"#;
    let text = inspect(index);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..2], ["manifest sha256:a linux/arm64/v8", "manifest sha256:b"]);
    assert!(lines.len() == 3 && lines[2].contains("skopeo inspect --raw docker://IMAGE@DIGEST | ocicrypt-kms inspect -"), "{text}");
    for empty in [r#"{"manifests":[]}"#, r#"{"layers":[]}"#] {
        assert_eq!(inspect(empty), "a manifest or an index that lists nothing\n");
    }
    layout(&user, &["m"], &[("m", "{}".into())]);
    assert!(refused(&user, &["inspect", "oci:image"], b"").contains("it has neither"));
    let many = vec![r#"{"digest":"sha256:a"}"#; 5000].join(",");
    assert!(refused(&user, &["inspect", "-"], format!(r#"{{"manifests":[{many}]}}"#).as_bytes()).contains("more than 4096 layers"));
}
