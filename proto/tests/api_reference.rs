//! `docs/grpc.md` is made of the .proto files: services, methods, messages and fields with their comments.
//!
//! `MILLRACE_WRITE_DOCS=1 cargo test -p millrace-proto --test api_reference` writes it again.

use std::{collections::HashMap, env, fmt::Write, fs, path::PathBuf};

use millrace_proto::grpc::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

const PREFIX: &str = "millrace/v1/";

/// Of the files, in the order in which a reader needs them.
const FILES: [(&str, &str); 5] = [
    ("sequencer.proto", "Sequencer: the public API"),
    ("executor.proto", "Executor"),
    ("da_adapter.proto", "DA adapter"),
    ("settlement.proto", "Settlement"),
    ("common.proto", "What several use"),
];

const HEAD: &str = "<!-- Generated from proto/millrace/v1/*.proto; change their comments, and run
     MILLRACE_WRITE_DOCS=1 cargo test -p millrace-proto --test api_reference -->

# gRPC reference

Every method, message and field of the package `millrace.v1`, from the comments in [`proto/millrace/v1`](../proto/millrace/v1). What the calls promise, the conventions, limits,
and every error with its facts: [wire.md](wire.md).
";

/// The numbers by which the descriptors of descriptors name their fields: a comment's path is made of them.
mod tag {
    pub(super) const MESSAGE: i32 = 4;
    pub(super) const ENUM: i32 = 5;
    pub(super) const SERVICE: i32 = 6;
    pub(super) const METHOD: i32 = 2;
    pub(super) const FIELD: i32 = 2;
    pub(super) const NESTED_ENUM: i32 = 4;
    pub(super) const VALUE: i32 = 2;
}

/// One file's comments by their paths, and what has none.
struct Comments {
    by_path: HashMap<Vec<i32>, String>,
    missing: Vec<String>,
}

impl Comments {
    fn of(file: &FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let by_path = locations.map(|location| {
            let parts = [location.leading_comments(), location.trailing_comments()];
            let words: Vec<_> = parts.iter().flat_map(|part| part.split_whitespace()).collect();
            (location.path.clone(), words.join(" "))
        });
        Self { by_path: by_path.collect(), missing: Vec::new() }
    }

    fn at(&mut self, path: &[i32], what: &str) -> String {
        let comment = self.by_path.get(path).cloned().unwrap_or_default();
        if comment.is_empty() {
            self.missing.push(what.to_owned());
        }
        comment.replace('|', "\\|")
    }

    /// As a sentence where it stands alone.
    fn sentence(&mut self, path: &[i32], what: &str) -> String {
        let comment = self.at(path, what);
        let stops = comment.ends_with(['.', ':', ';']);
        if stops { comment } else { format!("{comment}.") }
    }
}

/// The reference, and what has no comment.
fn reference() -> (String, Vec<String>) {
    let descriptors = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).expect("descriptors");
    let mut text = HEAD.to_owned();
    let mut missing = Vec::new();
    for (name, title) in FILES {
        let mut files = descriptors.file.iter();
        let file = files.find(|file| file.name() == format!("{PREFIX}{name}"));
        let file = file.unwrap_or_else(|| panic!("{name} is not among the descriptors"));
        let mut comments = Comments::of(file);
        write!(text, "\n## {title}\n\n[`{name}`](../proto/{PREFIX}{name})\n").expect("a string");
        for (index, service) in (0..).zip(&file.service) {
            text += &service_section(service, &[tag::SERVICE, index], &mut comments);
        }
        for (index, message) in (0..).zip(&file.message_type) {
            text += &message_section(message, &[tag::MESSAGE, index], &mut comments);
        }
        for (index, values) in (0..).zip(&file.enum_type) {
            text += &enum_section(values, values.name(), &[tag::ENUM, index], &mut comments);
        }
        missing.extend(comments.missing);
    }
    let ours = |file: &&FileDescriptorProto| file.name().starts_with(PREFIX);
    assert_eq!(descriptors.file.iter().filter(ours).count(), FILES.len(), "a file is not named");
    (text, missing)
}

fn service_section(
    service: &ServiceDescriptorProto,
    path: &[i32],
    comments: &mut Comments,
) -> String {
    let name = service.name();
    let comment = comments.sentence(path, name);
    let mut text = format!(
        "\n### service {name}\n\n{comment}\n\n| Method | Request | Reply | |\n|---|---|---|---|\n"
    );
    for (index, method) in (0..).zip(&service.method) {
        let place = [path, &[tag::METHOD, index]].concat();
        let comment = comments.at(&place, &format!("{name}.{}", method.name()));
        let kind = |streams: bool, ty: &str| {
            format!("{}{}", if streams { "stream of " } else { "" }, link(ty))
        };
        let request = kind(method.client_streaming(), method.input_type());
        let reply = kind(method.server_streaming(), method.output_type());
        writeln!(text, "| `{}` | {request} | {reply} | {comment} |", method.name())
            .expect("a string");
    }
    text
}

fn message_section(message: &DescriptorProto, path: &[i32], comments: &mut Comments) -> String {
    let name = message.name();
    let mut text = format!("\n### {name}\n\n{}\n", comments.sentence(path, name));
    if !message.field.is_empty() {
        text += "\n| Number | Field | Type | |\n|---|---|---|---|\n";
    }
    for (index, field) in (0..).zip(&message.field) {
        let place = [path, &[tag::FIELD, index]].concat();
        let comment = comments.at(&place, &format!("{name}.{}", field.name()));
        let (number, ty) = (field.number(), field_type(message, field));
        writeln!(text, "| {number} | `{}` | {ty} | {comment} |", field.name()).expect("a string");
    }
    for (index, values) in (0..).zip(&message.enum_type) {
        let place = [path, &[tag::NESTED_ENUM, index]].concat();
        text += &enum_section(values, &format!("{name}.{}", values.name()), &place, comments);
    }
    text
}

fn enum_section(
    values: &EnumDescriptorProto,
    name: &str,
    path: &[i32],
    comments: &mut Comments,
) -> String {
    let comment = comments.sentence(path, name);
    let mut text = format!("\n### {name}\n\n{comment}\n\n| Number | Value | |\n|---|---|---|\n");
    for (index, value) in (0..).zip(&values.value) {
        let place = [path, &[tag::VALUE, index]].concat();
        let comment = comments.at(&place, value.name());
        writeln!(text, "| {} | `{}` | {comment} |", value.number(), value.name())
            .expect("a string");
    }
    text
}

/// A field's type as the .proto file has it, and whether it is one of several of which at most one is set.
fn field_type(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let entry = message.nested_type.iter().find(|entry| {
        let is_map = entry.options.as_ref().is_some_and(|options| options.map_entry());
        is_map && field.type_name().ends_with(&format!(".{}.{}", message.name(), entry.name()))
    });
    if let Some(entry) = entry {
        let [key, value] = [0, 1].map(|at| scalar(&entry.field[at]));
        return format!("map of {key} to {value}");
    }
    let ty = scalar(field);
    if field.label() == Label::Repeated {
        return format!("repeated {ty}");
    }
    if field.proto3_optional() {
        return format!("optional {ty}");
    }
    let oneof = field.oneof_index.and_then(|index| message.oneof_decl.get(index as usize));
    oneof.map_or(ty.clone(), |oneof| format!("{ty}, one of `{}`", oneof.name()))
}

fn scalar(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => link(field.type_name()),
        scalar => format!("`{}`", scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase()),
    }
}

/// A link to the section of a type.
fn link(full_name: &str) -> String {
    let name = full_name.trim_start_matches(".millrace.v1.");
    format!("[`{name}`](#{})", name.to_lowercase().replace('.', ""))
}

#[test]
fn the_reference_is_what_the_protos_say() {
    let (made, missing) = reference();
    assert!(missing.is_empty(), "without a comment in the .proto files: {missing:?}");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/grpc.md");
    if env::var_os("MILLRACE_WRITE_DOCS").is_some() {
        fs::write(&path, &made).expect("docs/grpc.md");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let again = "MILLRACE_WRITE_DOCS=1 cargo test -p millrace-proto --test api_reference";
    assert!(kept == made, "the .proto files say something else than docs/grpc.md; run: {again}");
}

#[test]
fn every_link_leads_to_a_section() {
    let (text, _) = reference();
    let headings = text.lines().filter_map(|line| line.strip_prefix("### "));
    let anchors: Vec<String> =
        headings.map(|heading| heading.to_lowercase().replace('.', "").replace(' ', "-")).collect();
    for anchor in text.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert_eq!(anchors.iter().filter(|known| *known == anchor).count(), 1, "{anchor}");
    }
}
