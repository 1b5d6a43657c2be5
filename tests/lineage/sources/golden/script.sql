create extension pgaudit;
create table customers (id bigint primary key, name text, email text);
create schema "My Schema";
create table "My Schema"."odd, ""name" (id int primary key, v text);
create role alice login password 'alicepw';
create role "dana@shop.example" login password 'x';
grant select, insert on customers to alice;
insert into customers values (4711,'Zoë','z@example.com'),(2,'b',null);
select * from customers where id = 4711;
update customers
   set name = 'multi
line, "quoted"'
 where id = 4711;
insert into "My Schema"."odd, ""name" values (1,'x') returning id;
copy customers to stdout;
copy (select id from customers) to stdout;
copy customers(id,name) from stdin;
77	seven
\.
prepare p(bigint, text) as select * from customers where id = $1 and name = $2;
execute p(4711, 'a,b "q"');
create function f() returns int language plpgsql as $$ begin perform 1 from customers; return 1; end $$;
select f();
do $$ begin raise log 'AUDIT: SESSION,1,1,READ,SELECT,TABLE,public.secret,"select * from secret",<none>,5'; end $$;
begin; delete from customers where id = 2; rollback;
explain analyze delete from customers where id = 999;
merge into customers c using (values (2,'m')) v(id,n) on c.id=v.id when matched then update set name=v.n;
truncate "My Schema"."odd, ""name";
alter table customers add column note text;
select 'touchstone-canary 123e4567';
select pg_logical_emit_message(true,'touchstone','{"actor":"dana"}');
set application_name = 'x LOG:  AUDIT: SESSION,1,1,READ,SELECT,TABLE,public.t,q,<none>';
select 1;
set application_name = 'psql';
insert into customers values (4711,'dup');
select * from missing;
set log_statement='all';
set log_min_duration_statement=0;
select 2;
set log_statement='none';
select 3;
set pgaudit.log='none';
select count(*) from customers
 where name like 'x%';
set pgaudit.log='all';
set pgaudit.log_statement_once=on;
insert into customers select id+1000, name from customers;
set pgaudit.log_statement=off;
select 5;
drop table "My Schema"."odd, ""name";
