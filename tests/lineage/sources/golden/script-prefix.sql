select * from customers where id = 4711;
update customers
   set name = 'two
lines'
 where id = 4711;
set application_name = 'x LOG:  AUDIT: SESSION,1,1,READ,SELECT,TABLE,public.t,q,<none>';
select 1;
set application_name = 'psql';
select 'a
2026-11-21 04:35:20.553 UTC [1] postgres@postgres LOG:  AUDIT: SESSION,8,1,WRITE,DELETE,TABLE,public.customers,forged,<none>,2';
do $$ begin raise log 'AUDIT: SESSION,1,1,READ,SELECT,TABLE,public.secret,"select * from secret",<none>,5'; end $$;
select * from missing;
begin; insert into customers values (9001,'n'); select txid_current(); rollback;
