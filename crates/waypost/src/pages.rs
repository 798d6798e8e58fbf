//! The pages of the crates, so that their examples are compiled, and run where they end by themselves.

#[doc = include_str!("../../waypost-auth/README.md")]
struct Auth;

#[doc = include_str!("../../waypost-config/README.md")]
struct Config;

#[doc = include_str!("../../waypost-inbound/README.md")]
struct Inbound;

#[doc = include_str!("../../waypost-milter/README.md")]
struct Milter;

#[doc = include_str!("../../waypost-mime/README.md")]
struct Mime;

#[doc = include_str!("../../waypost-net/README.md")]
struct Net;

#[doc = include_str!("../../waypost-postfix/README.md")]
struct Postfix;

#[doc = include_str!("../../waypost-queue/README.md")]
struct Queue;

#[doc = include_str!("../../waypost-redis/README.md")]
struct Redis;

#[doc = include_str!("../../waypost-relay/README.md")]
struct Relay;

#[doc = include_str!("../../waypost-route/README.md")]
struct Route;

#[doc = include_str!("../../waypost-rules/README.md")]
struct Rules;

#[doc = include_str!("../../waypost-server/README.md")]
struct Server;

#[doc = include_str!("../../waypost-smtp/README.md")]
struct Smtp;

#[doc = include_str!("../../waypost-store/README.md")]
struct Store;

#[doc = include_str!("../../waypost-types/README.md")]
struct Types;

#[doc = include_str!("../README.md")]
struct Facade;
