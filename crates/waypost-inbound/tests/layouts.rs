//! Layouts of `Received` lines, one a row: what each server writes, with addresses of our own.
//!
//! `C` stands for the client's address, `A` for another public one that must never be read, `P` for a
//! private one. A row is read with an IPv4 and an IPv6 client unless it says otherwise.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may say what they mean"
)]

use std::net::IpAddr;

use waypost_inbound::Reading;

/// The client's address is read.
const READ: &[&str] = &[
    // sendmail and its kin
    "from h.example (r.example [C]) by mx.example (8.17.1/8.17.1) with ESMTPS id x for <a@b.example>; d",
    "from h.example (r.example [C] (may be forged)) by mx.example (8.12.11/8.12.11) with SMTP id x; d",
    "from h.example (r.example [C]) (authenticated bits=0) by mx.example (8.14.4/8.14.4) with ESMTP; d",
    "from h.example ([C]) by mx.example (8.9.3/8.9.3) with ESMTP id AAA; d",
    "from h.example (IDENT:root@r.example [C]) by mx.example (8.9.3/8.9.3) with ESMTP id x; d",
    "from h.example (IDENT:qmailr@[C]) by mx.example (8.9.3/8.9.3) with SMTP id x; d",
    "from h.example (IDENT:[A]@r.example [C]) by mx.example (8.9.3/8.9.3) with SMTP id x; d",
    "from h.example (IDENT:NO-IDENT-SERVICE@r.example [C]) by mx.example with SMTP; d",
    "from h.example (root@r.example [C]) by mx.example (8.8.8/8.8.8) with SMTP id x; d",
    "from h.example (root@[C]) by mx.example (8.8.8/8.8.8) with SMTP id x; d",
    "from h.example (r.example [C])by mx.example (8.12.11/8.12.11) with ESMTP id x; d",
    "from [A] (r.example [C]) by mx.example (8.11.6/8.11.6) with ESMTP id x; d",
    "from A (r.example [C]) (authenticated bits=0) by mx.example (8.12.10/8.12.10) with ESMTP; d",
    "from h.example (C) by mx.example (5.65c/IDA-1.4.4) id AA1; d",
    "from h.example ( [C]) by mx.example (8.9.3) with ESMTP; d",
    // Postfix
    "from h.example (unknown [C]) by mx.example (Postfix) with ESMTP id x for <a@b.example>; d",
    "from h.example (r.example [C]) (using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange X25519) (No client certificate requested) by mx.example (Postfix) with ESMTPS id x; d",
    "from h.example (r.example [C]) (Authenticated sender: a@b.example) by mx.example (Postfix) with ESMTPSA id x; d",
    "from h.example (r.example [C]) (Client CN \"h.example\", Issuer \"ca [A]\" (verified OK)) by mx.example (Postfix) with ESMTPS id x; d",
    "from h.example (r.example[C]) by mx.example (Postfix) with ESMTP id x; d",
    "from [P] (unknown [C]) by mx.example (Postfix) with ESMTPA id x; d",
    "from localhost (localhost [C]) by mx.example (Postfix) with ESMTP id x; d",
    "from h.example (r.example [IPv6:2001:db8::77]) by mx.example (Postfix) with ESMTPS id x; d",
    "from h.example (unknown [C:50123]) by mx.example (Postfix) with ESMTP id x; d",
    "from localhost ([C]) by localhost (mx.example [P]) (amavisd-new, port 10024) with ESMTP id x; d",
    // Exim
    "from r.example ([C] helo=h.example) by mx.example with esmtp (Exim 4.96) (envelope-from <a@b.example>) id x; d",
    "from r.example ([C]) by mx.example with esmtps (TLS1.3) tls TLS_AES_256_GCM_SHA384 (Exim 4.97) id x; d",
    "from r.example ([C]:58398 helo=h.example) by mx.example with esmtpsa (TLS1.2) (Exim 4.94) id x; d",
    "from r.example ([C] helo=[A]) by mx.example with esmtp (Exim 4.96) id x; d",
    "from r.example ([C] helo=h.example ident=root) by mx.example with esmtp (Exim 3.35) id x; d",
    "from [C] (helo=h.example) by mx.example with esmtp (Exim 4.89) id x; d",
    "from [C] (helo=[A]) by mx.example with smtp (Exim 4.96) id x; d",
    "from [C] (helo=A) by mx.example with smtp (Exim 4.96) id x; d",
    "from [C] (port=1234 helo=h.example) by mx.example with esmtp (Exim 4.4) id x; d",
    "from [C]:40123 (helo=h.example) by mx.example with esmtp (Exim 4.4) id x; d",
    "from [C] (ident=mail) by mx.example with asmtp (Exim 4.4) id x; d",
    "from [C] (helo=h.example ident=A) by mx.example with esmtp (Exim 4.4) id x; d",
    "from [C] by mx.example with esmtp (Exim 4.4) id x; d",
    "from [C] (helo=h.example) by relay.example with esmtps (TLS1.2:RSA) (Exim 4.90_1) (envelope-from <a@[A]>) id x; d",
    // qmail and its patches
    "from r.example (C) by mx.example with SMTP; d",
    "from r.example (HELO h.example) (C) by mx.example with SMTP; d",
    "from r.example (HELO A) (C) by mx.example with SMTP; d",
    "from unknown (HELO ) (C) by mx.example with SMTP; d",
    "from unknown (HELO ?A?) (C) by mx.example with SMTP; d",
    "from r.example (HELO h.example) (root@C) by mx.example with SMTP; d",
    "from r.example (root@C) by mx.example with SMTP; d",
    "from r.example (A@C) by mx.example with SMTP; d",
    "from unknown (HELO h.example) (a@b.example@C) by mx.example with ESMTPA; d",
    "from unknown (HELO h.example) (a@b.example@[C]) by mx.example with SMTP; d",
    "from unknown (HELO h.example) ([C]) (envelope-sender <a@b.example>) by mx.example (qmail-ldap-1.03) with SMTP; d",
    "from r.example (HELO h.example) (C) (smtp-auth username a, mechanism plain) by mx.example (qpsmtpd/0.80) with ESMTPA; d",
    "from r.example (HELO h.example) (C) by mx.example with (DHE-RSA-AES256-SHA encrypted) SMTP; d",
    "from unknown (HELO h.example)([C]) by mx.example with SMTP; d",
    "from unknown(HELO h.example) ([C]) (envelope-sender <a@b.example>) by mx.example; d",
    "from r.example (EHLO h.example) (C) by mx.example with ESMTP; d",
    "from h.example (LHLO h.example) (C) by mx.example with LMTP; d",
    "from C by mx.example (envelope-from <a@b.example>, uid 502) with qmail-scanner-1.24 (clamdscan: 0.80. Clear:RC:1(127.0.0.1):. Processed in 0.1 secs); d",
    "from unknown (HELO h.example) [C] by mx.example with SMTP; d",
    // Yahoo
    "from C (EHLO h.example) by 203.0.113.9 with SMTPs (version=TLS1_2 cipher=X); d",
    "from C (EHLO h.example) (C) by mta.example with SMTP; d",
    "from r.example (a@C with login) by smtp.example with SMTP; d",
    "from r.example (HELO h.example) (a@C with plain) by smtp.example with SMTP; d",
    "from [C] by web.example via HTTP; d",
    "from [C] by n1.example with NNFMP; d",
    "from C by web.example with HTTP; d",
    // Gmail, Exchange, Outlook, Notes
    "from h.example (r.example. [C]) by mx.example with ESMTPS id x for <a@b.example> (version=TLS1_3 cipher=X bits=256/256); d",
    "from [P] ([C]) by smtp.example with ESMTPSA id x; d",
    "from ?P? ([C]) by mx.example with ESMTPS id x; d",
    "from h.example (C) by mx.example (P) with Microsoft SMTP Server (version=TLS1_2, cipher=X) id 15.20.1; d",
    "from h.example (C) by mx.example (fe80::1%12) with Microsoft SMTP Server id 15.1.1; d",
    "from h.example ([C]) by mx.example with Microsoft SMTPSVC(6.0.3790.3959); d",
    "from h.example ([C] RDNS failed) by mx.example over TLS secured channel with Microsoft SMTPSVC(8.5.9600.16384); d",
    "from h.example ([C]) by mx.example ([fe80::1%9]) with mapi id 15.20.1; d",
    "from h (W3NEW [C]) by mx.example with SMTP (Microsoft Exchange Internet Mail Service Version 5.5.2653.13) id x; d",
    "from h.example - C by mx.example with Microsoft SMTPSVC; d",
    "from h.example ([C]) by mx.example (Lotus Domino Release 8.5.3) with SMTP id x; d",
    "from C by law.example with HTTP; d",
    // commercial and old servers
    "from h.example ([C] verified) by mx.example (CommuniGate Pro SMTP 6.2) with ESMTP id 1; d",
    "from [C] (HELO h.example) by mx.example (CommuniGate Pro SMTP 5.1) with ESMTP id 1; d",
    "from [C] (account a@b.example HELO [A]) by mx.example (CommuniGate Pro SMTP 5.1) with ESMTPA id 1; d",
    "from [C] (account a) by mx.example (CommuniGate Pro WebUser 4.1) with HTTP id 1; d",
    "from h.example [C] by mx.example with ESMTP (SMTPD32-8.05) id x; d",
    "from [P] [C] by mx.example with ESMTP (SMTPD32-8.05) id x; d",
    "from h.example[C] by mx.example (NTMail 3.03) id x; d",
    "from h.example (unverified [C]) by mx.example (Rockliffe SMTPRA 4.5.6) with ESMTP id x; d",
    "from h.example (unverified [C]) by mx.example (SurgeMail 3.9e) with ESMTP id x; d",
    "from h.example (Not Verified[C]) by mx.example with MailMarshal (v6,4,0) id x; d",
    "from h.example (Not Verified[C]) by mx.example with Trustwave SEG (v8) (using TLS: TLSv1.2) id x; d",
    "from h.example [C] by mx.example [P] with SMTP (MDaemon.v3.5.2.R) for <a@b.example>; d",
    "from h.example [(C)] by mx.example (P) (MDaemon PRO v23.0.1) with ESMTPS id x; d",
    "from h.example (r.example [C]) by mx.example (P) with ESMTPSA id md500.msg; d",
    "from h.example ([C]) by mx.example with MailEnable ESMTP; d",
    "from h.example (UnknownHost [C]) by mx.example with SMTP; d",
    "from h.example (C:23198) by mx.example with [XMail 1.20 ESMTP Server] id <x> for <a@b.example>; d",
    "from h.example ([C]:23198) by mx.example with [XMail 1.27 ESMTP Server] id <x>; d",
    "from h.example (C) by mx.example (Mercury/32 v4.01) with ESMTP ID x; d",
    "from h.example ([C] [C]) by mx.example with ESMTP id x; d",
    "from h.example (A [C]) by mx.example (InterMail vM.5.01) with SMTP id x; d",
    "from h.example ([C]:48557 \"EHLO h.example\") by mx.example with ESMTP id <x>; d",
    "from h.example ([C]:48557 \"EHLO [A]\" rhost-flags-OK-OK-OK-OK) by mx.example with ESMTP id <x>; d",
    "from h.example (\"port 51581\"@r.example [C]) by mx.example (Sun Internet Mail Server) with ESMTP id x; d",
    "from h.example (\"port 51581\"@[C]) by mx.example (PMDF V6.0-24 #41480) with ESMTP id x; d",
    "from h.example (root@[C]:48557 \"EHLO [A]\") by mx.example with ESMTP id <x>; d",
    "from h.example (/C) by mx.example with SMTP; d",
    "from h.example (r.example/C) by mx.example with SMTP; d",
    "from [C] (SquirrelMail) by web.example with HTTP; d",
    "from h.example (C), claiming to be \"A\" via SMTP by mx.example, id x; d",
    "from h.example ([C]), claiming to be \"[A]\" via SMTP by mx.example, id x; d",
    "from h.example ([C] claimed to be [A]) by mx.example; d",
    "from localhost (localhost C) by mx.example; d",
    "from unknown C by mx.example; d",
    "from [C]by mx.example; d",
    "from h.example(r.example [C])by mx.example; d",
    "from h.example (r.example [C]) by mx.example (PMDF V6.0-24 #41480) with ESMTP id x; d",
    "from [C] by mx.example (mshttpd); d",
    "from [C] (Forwarded-For: A, [A]) by mx.example (mshttpd); d",
    "from h.example (r.example [::ffff:192.0.2.77]) (AUTH: LOGIN a, TLS: TLSv1) by mx.example with esmtp; d",
    "from h.example ([::ffff:192.0.2.77]) by mx.example with esmtp; d",
    "from h.example (IDENT: a, r.example [C]) by mx.example with esmtp; d",
    "from h.example (IDENT: a, [C]) by mx.example with esmtp; d",
    "from h.example(C) by mx.example via smap (V2.0) id x; d",
    "from unknown(C) by mx.example via csmap (V4.1) id x; d",
    "from h.example(C, HELO A) by mx.example via smap (V1.3) id x; d",
    "from h.example([C]) by mx.example(WebShield SMTP v4.5 MR1a); id 1; d",
    "from h.example (really [C]) by mx.example via in.smtpd with smtp id x (Debian Smail3.2.0.102); d",
    "from h.example (really r.example [C]) by mx.example via rsmtp; d",
    "from h.example (r.example [C]) by mx.example (OpenSMTPD) with ESMTPS id x; d",
    "from localhost (unknown [C]) by mx.example (OpenSMTPD) with ESMTP id x; d",
    "from h.example (r.example [C]) by mx.example (Haraka/3.0.3) with ESMTPS id x envelope-from <a@b.example>; d",
    "from h.example (Unknown [C]) by mx.example (Haraka/2.8) with ESMTP id x; d",
    "from C (EHLO h.example) ([C]) by mx.example (JAMES SMTP Server ) with ESMTP ID x; d",
    "from r.example (HELO h.example) ([C]) by mx.example (JAMES SMTP Server 3) with ESMTP; d",
    "from h.example (r.example [C]) by mx.example (Mirapoint) with ESMTP id x; d",
    "from h.example ([C] EHLO h.example) by mx.example (MOS 4.3) with ESMTP id x; d",
    "from h.example (C) by mx.example (PowerMTA(TM) v4.5r15) id x for <a@b.example>; d (envelope-from <a@b.example>)",
    "from (C) by mx.example id x for <a@b.example>; d (envelope-from <a@b.example>)",
    "from ([C]) by mx.example with ESMTP; d",
    "from (r.example [C]) by mx.example with ESMTP; d",
    "from [C] ([C:33672] helo=h.example) by mx.example (envelope-from <a@b.example>) (ecelerity 2.1.1.22 r(17669)) with ESMTP id x; d",
    "from h.example ([UNAVAILABLE]. [C]) (using TLSv1.3 with cipher X) by 0.0.0.0:2500 (trex/6.9.2); d",
    "from h.example ([TEMPUNAVAIL]. [C]) by 0.0.0.0:2500 (trex/5.9.14); d",
    "from h.example ([C]) by :SMTPAUTH: with ESMTP id x; d",
    "from source ([C]) (using TLSv1) by mx.example ([203.0.113.9]) with SMTP; d",
    "from unknown [C] (EHLO h.example) by mx.example(mxl_mta-7.2.4-1) with ESMTP id x; d",
    "from [C] (using TLSv1.2 with cipher X) by server-1.example id x; d",
    "from unknown (HELO h.example) (C) by mx.example with AES256-SHA encrypted SMTP; d",
    "from h.example ([C]) by mx.example with InterScan Message Security Suite; d",
    "from C by mx.example (InterScan E-Mail VirusWall NT); d",
    "from [C]:50999 (HELO h.example) by mx.example ([P]:25) (F-Secure Anti-Virus) with SMTP; d",
    "from someone ( [C] ) by ajax-webmail.example (Coremail) ; d",
    "from h ( [C]) by smtp.example (ESMTP) with SMTP id 0; d",
    "from h (unknown [C]) by smtp8 (Coremail) with SMTP id x; d",
    "from h(mailfrom:a@b.example fp:SMTPD_---.X ip:C) by smtp.example(203.0.113.9); d",
    "from h(mailfrom:a@[A] fp:SMTPD_---.X ip:C) by smtp.example(203.0.113.9); d",
    "from unknown (HELO h.example) (a@b.example@C) by 203.0.113.9 with ESMTP; d",
    "from h.example ([C]) by mx.example (mxgmx016 [203.0.113.9]) with ESMTPSA (Nemesis) id x; d",
    "from [C] by 3capp.example (via HTTP); d",
    "from C ([C]) by webmail.example (IMP) with HTTP for <a@b.example>; d",
    "from r.example (r.example [C]) by webmail.example (Horde Framework) with HTTP; d",
    "from C (proxying for A) (SquirrelMail authenticated user a) by web.example with HTTP; d",
    "from C (SquirrelMail authenticated user a) by web.example with HTTP; d",
    "from r.example [C] by web.example with HTTP (HTTP/1.1 POST); d",
    "from [C] by web.example with HTTP (HTTP/1.1 POST); d",
    "from h.example (C [C]) by Postal with HTTP; d",
    "from C named unknown by gmailapi.example with HTTPREST; d",
    "from facebook.example (RE1/dK0Km3LiJCbKxKPRkUiZwSPKqRrWO9fjzoQ9p0c+3H8e1w0HVrPV5CaRhxYe C) by facebook.example with Thrift id x; d",
    "from pop.example (C) by localhost with POP3 (fetchmail-6.3.26) for <a@localhost> (single-drop); d",
    "from pop.example [C] by localhost with POP3 (fetchmail-5.9.13); d",
    "from pop.example (pop.example [C]) by host.example with IMAP (fetchmail-6.4.0); d",
    "from h.example ([C.56789]) by mx.example with SMTP; d",
    "from h.example (r.example [C.56789]) by mx.example with SMTP; d",
    "from h.example (r.example [C]:56789) by mx.example with SMTP; d",
    "from h.example ([C], helo=A) by mx.example with SMTP; d",
    "from h.example (r.example, [C]) by mx.example with SMTP; d",
    "from h.example (r.example [C], authenticated) by mx.example with SMTP; d",
    // folds, case, and what is missing
    "from h.example\r\n\t(r.example [C])\r\n\tby mx.example; d",
    "from h.example\n (r.example\n [C])\n by mx.example; d",
    "\r\n from h.example (r.example [C]) by mx.example; d",
    "FROM h.example (r.example [C]) BY mx.example; d",
    "From h.example (Unknown [C]) By mx.example; d",
    "from h.example (r.example [C]) id x; d",
    "from h.example (r.example [C])",
    "from h.example (r.example [C]) (using TLS by mx.example",
    "from [C]; d",
    "from [C] (AVG SMTP 7.0.299 [265.6.8]); d",
];

/// No address is read.
const NOT_READ: &[&str] = &[
    "",
    "from",
    "from ",
    "from by mx.example ([A]) with SMTP; d",
    "from  by mx.example ([A]); d",
    "from h.example by mx.example with SMTP id A; d",
    "from h.example by mx.example ([A]) with SMTP; d",
    "from h.example by A with SMTP; d",
    "from h.example by mx.example for <a@[A]>; d",
    "from h.example by mx.example via smtpd (for b.example [A]) with ESMTP; d",
    "from mail pickup service by mx.example with Microsoft SMTPSVC; d",
    "from a@b.example by mx.example (mail_out_v34.21.) id x; d",
    "from a@[A] by mx.example; d",
    "from <a@[A]> by mx.example (CommuniGate Pro RULES 3.4); d",
    "from root by mx.example with local (Exim 4.52) id x; d",
    "from localhost (localhost) by mx.example (8.14.2/8.14.2) id x; d",
    "from localhost (a@localhost) by mx.example (8.9.3/8.9.3); d",
    "from localhost (b.example [local]) by mx.example (OpenSMTPD) with ESMTPA id x; d",
    "from h ([unix socket]) by mx.example (Cyrus v2.2.12) with LMTPA; d",
    "from A ([unix socket]) by mx.example (Cyrus v2.2.12) with LMTPA; d",
    "from [A] (unknown []) by mx.example (Postfix) with SMTP id x; d",
    "from [A] (unknown [xxx.xxx.xxx.xxx]) by mx.example (Postfix) with SMTP id x; d",
    "from A (unknown) by mx.example; d",
    "from A (HELO h.example) () by mx.example with SMTP; d",
    "from [A] (xxx.xxx.xxx.xxx) by mx.example with SMTP; d",
    "from A (HELO h.example) (xxx.xxx.xxx.xxx) by mx.example with SMTP; d",
    "from A (HELO h.example) (a@xxx.xxx.xxx.xxx) by mx.example with SMTP; d",
    "from h.example (unverified) by mx.example (Content Technologies SMTPRS 4.2.1) with ESMTP; d",
    "from h.example (r.example) by mx.example (Content Technologies SMTPRS 4.3.17) with ESMTP; d",
    "from [A] (r.example) by mx.example (Content Technologies SMTPRS 4.3.17) with ESMTP; d",
    "from h.example ([mail.example]) by 127.0.0.1 with LMTP; d",
    "from 384836569573 named unknown by gmailapi.example with HTTPREST; d",
    "from MjA3NDc4Mg (unknown) by ismtpd.example (SG) with HTTP id x; d",
    "from x (AUTH: A) by mx.example with esmtp; d",
    "from (AUTH: e40a9cea) by mx.example with esmtp; d",
    "from h.example ([256.256.256.256]) by mx.example with SMTP; d",
    "from h.example ([010.1.2.3]) by mx.example with SMTP; d",
    "from h.example ([192.0.2]) by mx.example with SMTP; d",
    "from 010.1.2.3 by mx.example with SMTP; d",
    "from h.example (1.2.3.4.5) by mx.example with SMTP; d",
    "from h.example ([2002:xxxx::1]) by mx.example with SMTP; d",
    "from SpoolDir by mx.example (Mercury 1.48); d",
    "from h.example (HELO A) by mx.example with SMTP; d",
    "from h.example (HELO [A]) by mx.example with SMTP; d",
    "from h.example (helo=A) by mx.example with SMTP; d",
    "from h.example (helo=[A]) by mx.example with SMTP; d",
    "from h.example (helo=x@[A]) by mx.example with SMTP; d",
    "from h.example (ident=A) by mx.example with SMTP; d",
    "from h.example (envelope-from <a@[A]>) by mx.example with SMTP; d",
    "from h.example (envelope-from a@A) by mx.example with SMTP; d",
    "from h.example (for [A]) by mx.example with SMTP; d",
    "from h.example (via [A]) by mx.example with SMTP; d",
    "from h.example (using TLSv1.2 with A) by mx.example with SMTP; d",
    "from h.example (Exim/4.9.2.1) by mx.example with SMTP; d",
    "from h.example (Postfix 3.1.2.3) by mx.example with SMTP; d",
    "from h.example (Authenticated sender: a@A) by mx.example with SMTP; d",
    "from h.example with SMTP id A; d",
];

/// The line is no hop.
const BY: &[&str] = &[
    "by A with SMTP id x; d",
    "by mx.example (Postfix, from userid 501) id x; d",
    "(qmail 22147 invoked by uid 526); d",
    "(qmail 22147 invoked from network); d",
    "(from a@localhost) by mx.example (8.9.3/8.9.3) id x; d",
    "(from h.example [A]) by mx.example; d",
    "at Infodrom (/\\##/\\ Smail-3.2.0.102) from h.example ([A]) by mx.example via smail; d",
    "fromage (r.example [A]) by mx.example; d",
    "from: h.example (r.example [A]) by mx.example; d",
    "for <a@b.example> from h.example ([A]) by mx.example; d",
    "; d",
];

fn filled(row: &str, client: &str) -> String {
    // Capital letters alone are place holders: `C` not within a word.
    let mut out = String::new();
    let bytes = row.as_bytes();
    for (i, c) in row.char_indices() {
        let before = i.checked_sub(1).map_or(b' ', |j| bytes[j]);
        let after = bytes.get(i + 1).copied().unwrap_or(b' ');
        let alone = !before.is_ascii_alphanumeric()
            && !after.is_ascii_alphanumeric()
            && !matches!(after, b'-' | b'+' | b'/')
            && before != b'-';
        match c {
            'C' if alone && !row[i..].starts_with("C \"") && !row[..i].ends_with("Client ") => {
                out.push_str(client);
            }
            'A' if alone => out.push_str("8.8.4.4"),
            'P' if alone => out.push_str("10.1.2.3"),
            c => out.push(c),
        }
    }
    out
}

#[test]
fn the_client_is_read_from_every_layout_e4() {
    let mut wrong = Vec::new();
    for row in READ {
        for client in ["192.0.2.77", "2001:db8::77"] {
            let port = row.contains("C:") || row.contains("C.5");
            if client.contains(':') && port {
                continue;
            }
            let line = filled(row, client);
            let want: IpAddr = match row {
                _ if row.contains("::ffff:192.0.2.77") => "192.0.2.77".parse().unwrap(),
                _ if row.contains("IPv6:2001:db8::77") => "2001:db8::77".parse().unwrap(),
                _ => client.parse().unwrap(),
            };
            let reading = Reading::of(line.as_bytes());
            if reading.ip() != Some(want) {
                wrong.push(format!("{line}\n    -> {reading:?}"));
            }
        }
    }
    println!("{} layouts with a client", READ.len());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn nothing_is_read_where_nothing_is_said_e4() {
    let mut wrong = Vec::new();
    for (rows, by) in [(NOT_READ, false), (BY, true)] {
        for row in rows {
            let line = filled(row, "192.0.2.77");
            let reading = Reading::of(line.as_bytes());
            let is_by = reading == Reading::By || row.is_empty();
            if reading.ip().is_some() || is_by != (by || row.is_empty()) {
                wrong.push(format!("{line}\n    -> {reading:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
